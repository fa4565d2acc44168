"""What a sink reads off the tape while the partitions that it has to write come and go."""

import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.judged import Message, judge_messages
from tickcast._core import Hold, Judge, Judged, TapeWriter

P = (1, 0)
MESSAGES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=6)
"""Batches of messages, each of so many ticks."""


def open_tape(folder: str, size: int = 4 << 20) -> TapeWriter:
    return TapeWriter(Path(folder) / "run", bytes=size, enrichments=[], rules=[], rule_set="none@1", max_instruments=16)


def write(tape: TapeWriter, batches: list[list[int]]) -> int:
    """Put a partition's messages on the tape, from its first offset on; return how many trades that are."""
    judge, offset, trades = Judge(), 0, 0
    for batch in batches:
        messages = []
        for ticks in batch:
            tick = f'{{"instrumentId":"AAA","price":5,"volume":1,"timestampNs":"{offset + 1}"}}'
            messages.append(Message(offset, f"[{','.join([tick] * ticks)}]".encode()))
            offset, trades = offset + 1, trades + ticks
        assert tape.append(judge_messages(judge, messages), True) is not None
    return trades


def read_all(hold: Hold, head: int, begun: int, most: int) -> list[str]:
    """Read as a sink does whose partition is its own from `begun` on; return the ids of what it has to write."""
    ids = []
    while hold.confirmed < head:
        mine = hold.confirmed >= begun
        outbox = hold.read_messages(most, 0.0, "json", {P: 0} if mine else {}, None if mine else begun)
        assert mine or outbox.last <= begun, "trades were passed over that are its own"
        assert outbox.last > hold.confirmed, "it does not get on"
        ids += [trade_id for _, _, trade_id, _ in outbox.messages()]
        hold.confirm(outbox.last)
    return ids


@settings(max_examples=40, deadline=None)
@given(MESSAGES, MESSAGES, st.integers(1, 30))
def test_what_is_read_anew_under_the_next_owner_is_all_written(
    before: list[list[int]], after: list[list[int]], most: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tape = open_tape(folder)
        hold = tape.hold("sink")
        write(tape, before)
        begun = tape.head
        trades = write(tape, after)
        # The writer is ahead of the sink: what lies behind `begun` is on the tape already while it reads up to there.
        ids = read_all(hold, tape.head, begun, most)
        tape.close()
    assert len(ids) == len(set(ids)) == trades


def judged(count: int, first: int, names: int) -> Judged:
    """Return one message of so many ticks, over so many instruments in turn."""
    ticks = [
        f'{{"instrumentId":"N{row % names}","price":5,"volume":1,"timestampNs":"{first + row + 1}"}}'
        for row in range(count)
    ]
    return judge_messages(Judge(), [Message(first, f"[{','.join(ticks)}]".encode())])


def test_a_batch_is_of_one_instrument_and_one_rule_set(tmp_path: Path) -> None:
    tape = open_tape(str(tmp_path))
    hold = tape.hold("sink")
    tape.append(judged(6, 0, 2), True)
    tape.learn([], ["none@1", "desk@2"], "desk@2")
    tape.append(judged(6, 1, 2), True)
    found = hold.read_messages(100, 0.0, "proto-batch").messages()
    told = [(key, dict(headers)["tickcast-rules"], dict(headers)["tickcast-sequence"]) for key, _, _, headers in found]
    # Batches stand in the order of their instruments' first trades; the sequence is that of the last trade inside.
    assert told == [("N0", "none@1", "5"), ("N0", "desk@2", "11"), ("N1", "none@1", "6"), ("N1", "desk@2", "12")]
    assert [dict(headers)["tickcast-trade-id"] for _, _, _, headers in found] == [key for _, _, key, _ in found]
    assert {dict(headers)["tickcast-epoch"] for _, _, _, headers in found} == {f"{tape.epoch:016x}"}
    tape.close()


def test_a_batch_keeps_the_order_of_an_instrument_whether_its_id_is_in_the_dictionary_or_not(tmp_path: Path) -> None:
    tape = open_tape(str(tmp_path))
    hold = tape.hold("sink")
    # What fails the screen brings its id along, the others have a code.
    prices = [("AAA", -1), ("AAA", 5), ("BBB", 5), ("AAA", -1), ("BBB", -1), ("AAA", 5)]
    ticks = [f'{{"instrumentId":"{name}","price":{price},"volume":1,"timestampNs":"7"}}' for name, price in prices]
    tape.append(judge_messages(Judge(), [Message(0, f"[{','.join(ticks)}]".encode())]), True)
    found = hold.read_messages(100, 0.0, "proto-batch").messages()
    assert [(key, dict(headers)["tickcast-sequence"]) for key, _, _, headers in found] == [("AAA", "6"), ("BBB", "5")]
    ids = [re.findall(rb"[0-9a-f]{32}", payload) for _, payload, _, _ in found]
    assert [[int(digits[-4:], 16) for digits in each] for each in ids] == [[0, 1, 3, 5], [2, 4]]
    tape.close()


def test_a_batch_stays_below_what_brokers_take(tmp_path: Path) -> None:
    tape = open_tape(str(tmp_path), 64 << 20)
    hold = tape.hold("sink")
    trades = 12_000
    for at in range(4):
        assert tape.append(judged(trades // 4, at, 1), True) is not None
    outbox = hold.read_messages(trades, 0.0, "proto-batch")
    sizes = [len(payload) for _, payload, _, _ in outbox.messages()]
    assert outbox.last == trades
    assert len(sizes) > 1
    assert max(sizes) < 513 * 1024
    assert sum(sizes) > 512 * 1024
    tape.close()


def test_messages_carry_the_trace_of_their_tick(tmp_path: Path) -> None:
    tape = open_tape(str(tmp_path))
    hold = tape.hold("sink")
    tape.append(judged(2, 7, 1), True)
    bare = hold.read_messages(10, 0.0, "json").messages()
    assert all("traceparent" not in dict(headers) for _, _, _, headers in bare)
    traces = {bare[0][2][:28]: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    found = hold.read_messages(10, 0.0, "json", traces=traces).messages()
    assert [dict(headers)["traceparent"] for _, _, _, headers in found] == list(traces.values()) * 2
    tape.close()
