"""What a sink reads off the tape while the partitions that it has to write come and go."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.judged import Message, judge_messages
from tickcast._core import Hold, Judge, TapeWriter

P = (1, 0)
MESSAGES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=6)
"""Batches of messages, each of so many ticks."""


def open_tape(folder: str) -> TapeWriter:
    return TapeWriter(
        Path(folder) / "run", bytes=4 << 20, enrichments=[], rules=[], rule_set="none@1", max_instruments=16
    )


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
