"""Which trades on the tape a sink has to write, while partitions of the log come and go."""

import pytest

pytest.importorskip("confluent_kafka")

from tickcast.kafka import Ownership
from tickcast.processor.progress import Progress

P, Q = (7, 0), (7, 1)


def test_nothing_is_known_before_the_first_assignment():
    owner = Ownership()
    assert owner.is_first
    assert owner.behind(0) is None
    owner.take({P: 10})
    assert not owner.is_first


def test_the_first_assignment_counts_with_what_the_tape_had_before():
    owner = Ownership()
    owner.take({P: 10, Q: 20})
    assert owner.behind(0) == ({P: 10, Q: 20}, None)
    owner.begin(*P, after=500)
    assert owner.behind(0) == ({P: 10, Q: 20}, None)


def test_what_was_under_way_when_a_partition_was_given_up_is_not_its_next_owners():
    owner = Ownership()
    owner.take({P: 10, Q: 20})
    owner.drop(*P)
    owner.take({P: 30})
    # Trades of the first time may still come to the tape; those of the second come behind 500.
    assert owner.behind(100) == ({Q: 20}, None)
    owner.begin(*P, after=500)
    assert owner.behind(100) == ({Q: 20}, 500)
    assert owner.behind(500) == ({P: 30, Q: 20}, None)


def test_what_was_given_up_does_not_begin():
    owner = Ownership()
    owner.take({P: 10})
    owner.drop(*P)
    owner.begin(*P, after=5)
    owner.move(*P, offset=99)
    assert owner.behind(10) == ({}, None)


def test_another_offset_leaves_the_beginning_where_it_was():
    owner = Ownership()
    owner.take({Q: 1})
    owner.take({P: 10})
    owner.move(*P, offset=12)
    assert owner.behind(50) == ({Q: 1}, None)
    owner.begin(*P, after=50)
    assert owner.behind(50) == ({P: 12, Q: 1}, None)


def test_positions_of_an_earlier_time_as_owner_are_forgotten():
    progress = Progress(3, [(7, 0, 8, 0), (7, 1, 4, 0)])
    progress.note(5, (7, 0, 9, 0))
    progress.note_horizons([(7, 0, 9, 2), (7, 1, 4, 1)])
    progress.forget(*P)
    assert progress.until(10) == [(7, 1, 4, 0)]
    assert progress.lowest((7, 0, 9, 0)) is None
    assert progress.lowest((7, 1, 4, 0)) == 1
