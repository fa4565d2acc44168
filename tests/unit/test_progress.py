"""What may be committed upstream, and from where windows can be had again."""

from hypothesis import given
from hypothesis import strategies as st

from tickcast.processor.progress import Progress

PARTITION = st.tuples(st.just(7), st.integers(0, 2))


@given(st.lists(st.tuples(PARTITION, st.integers(0, 5)), max_size=40), st.integers(0, 60))
def test_the_newest_position_of_each_partition_is_reached_once(steps: list, confirmed: int) -> None:
    progress, offsets, noted = Progress(0, []), {}, []
    for sequence, (partition, step) in enumerate(steps, 1):
        offsets[partition] = offsets.get(partition, 0) + step
        position = (*partition, offsets[partition], 65_535)
        noted.append((sequence, position))
        progress.note(sequence, [position])
    expected = {position[:2]: position for sequence, position in noted if sequence <= confirmed}
    assert set(progress.until(confirmed)) == set(expected.values())
    assert set(progress.reached(confirmed)) == set(expected.values())
    assert progress.reached(confirmed) == []
    assert set(progress.until(confirmed)) == set(expected.values()), "whoever asks later is told it all the same"


def test_a_commit_names_the_newest_horizon_that_was_taken_at_or_before_it() -> None:
    progress = Progress(0, [])
    assert progress.lowest((7, 0, 50, 0)) is None
    # Windows had taken in all before 100 and needed 20; later all before 200, and needed 120.
    progress.note_horizons([(7, 0, 100, 20)])
    progress.note_horizons([(7, 0, 200, 120)])
    assert progress.lowest((7, 0, 98, 0)) is None
    assert progress.lowest((7, 0, 99, 0)) == 20
    assert progress.lowest((7, 0, 198, 0)) == 20
    assert progress.lowest((7, 0, 199, 0)) == 120
    assert progress.lowest((7, 1, 199, 0)) is None
