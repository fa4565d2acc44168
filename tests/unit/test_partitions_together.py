"""A batch of several partitions, against a batch for each."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.judged import Message, judge_partitions
from tickcast._core import Judge, TapeWriter

BATCH = st.dictionaries(st.integers(0, 5), st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1)
"""Messages by partition, each of so many ticks."""


def payload(partition: int, offset: int, ticks: int) -> bytes:
    """Return ticks of two instruments that a partition alone has, one in seven of them no tick at all."""
    if (offset + partition) % 7 == 6:
        return b'{"instrumentId":"BROKEN"}'
    names = [f"P{partition}N{tick % 2}" for tick in range(ticks)]
    tick = '{"instrumentId":"%s","price":5,"volume":1,"timestampNs":"%d"}'
    return f"[{','.join(tick % (name, 1 + offset * 1_000_000_000) for name in names)}]".encode()


def make_judge() -> Judge:
    judge = Judge(window_ns=2_000_000_000, hold_ns=4_000_000_000)
    judge.keep_horizons()
    return judge


def open_tape(folder: Path) -> TapeWriter:
    return TapeWriter(folder, bytes=4 << 20, enrichments=[], rules=[], rule_set="none@1", max_instruments=16)


@settings(max_examples=60, deadline=None)
@given(st.lists(BATCH, min_size=1, max_size=5))
def test_partitions_together_give_what_they_give_one_by_one(batches: list[dict[int, list[int]]]) -> None:
    together, apart = make_judge(), make_judge()
    offsets = dict.fromkeys(range(6), 0)
    with tempfile.TemporaryDirectory() as folder:
        tape, other = open_tape(Path(folder) / "together"), open_tape(Path(folder) / "apart")
        for batch in batches:
            partitions = []
            for partition, messages in batch.items():
                first = offsets[partition]
                offsets[partition] += len(messages)
                made = [Message(at, payload(partition, at, ticks)) for at, ticks in enumerate(messages, first)]
                partitions.append((partition, made))
            judged = judge_partitions(together, partitions)
            one_by_one = [judge_partitions(apart, [part]) for part in partitions]
            lines = [line for part in one_by_one for line in part.json_lines([]).splitlines()]
            assert judged.json_lines([]).splitlines() == lines
            assert judged.last_positions == [position for part in one_by_one for position in part.last_positions]
            assert [position[2] + 1 for position in judged.last_positions] == [offsets[p] for p in batch]
            tape.append(judged, True)
            for part in one_by_one:
                other.append(part, True)
            assert tape.positions == other.positions
            assert together.horizons() == apart.horizons()
        assert tape.head == other.head
        tape.close()
        other.close()
