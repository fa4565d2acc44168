"""Which trades on the tape a sink has to write, while partitions of the log come and go."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from tickcast.kafka import Ownership
from tickcast.processor.progress import Progress

P, Q = (7, 0), (7, 1)


EPOCH = 11


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Ownership]:
    """Start, again and again: what was owned is remembered in between."""

    def make(epoch: int = EPOCH) -> Ownership:
        owner = Ownership(tmp_path / "ownership.json")
        owner.remember(epoch)
        return owner

    return make


def test_nothing_is_known_before_the_first_assignment(start):
    owner = start()
    assert owner.behind(0) is None
    assert not owner.goes_on(*P)
    owner.take({P: 10})
    assert owner.behind(0) == ({}, None)


def test_partitions_count_from_where_they_begin(start):
    owner = start()
    owner.take({P: 10, Q: 20})
    owner.begin(*P, after=0)
    owner.begin(*Q, after=500)
    assert owner.behind(0) == ({P: 10}, 500)
    assert owner.behind(500) == ({P: 10, Q: 20}, None)


def test_what_was_under_way_when_a_partition_was_given_up_is_not_its_next_owners(start):
    owner = start()
    owner.take({P: 10, Q: 20})
    owner.begin(*P, after=0)
    owner.begin(*Q, after=0)
    owner.drop(*P)
    owner.take({P: 30})
    # Trades of the first time may still come to the tape; those of the second come behind 500.
    assert owner.behind(100) == ({Q: 20}, None)
    owner.begin(*P, after=500)
    assert owner.behind(100) == ({Q: 20}, 500)
    assert owner.behind(500) == ({P: 30, Q: 20}, None)


def test_what_was_given_up_does_not_begin(start):
    owner = start()
    owner.take({P: 10})
    owner.drop(*P)
    owner.begin(*P, after=5)
    owner.move(*P, offset=99)
    assert owner.behind(10) == ({}, None)


def test_another_offset_leaves_the_beginning_where_it_was(start):
    owner = start()
    owner.take({Q: 1})
    owner.begin(*Q, after=0)
    owner.take({P: 10})
    owner.move(*P, offset=12)
    assert owner.behind(50) == ({Q: 1}, None)
    owner.begin(*P, after=50)
    assert owner.behind(50) == ({P: 12, Q: 1}, None)


def test_after_a_restart_the_tape_still_counts_from_where_the_partition_began(start):
    owner = start()
    owner.take({P: 10})
    owner.begin(*P, after=5)
    owner.appended({P})
    owner = start()
    assert owner.goes_on(*P)
    owner.take({P: 12, Q: 0})
    owner.begin(*P, after=900)
    # What the tape has of P up to 5 is of an earlier time; of Q, which is new here, it has nothing that counts.
    assert owner.behind(4) == ({}, 5)
    assert owner.behind(5) == ({P: 12}, None)


def test_after_a_restart_what_was_given_up_before_does_not_count(start):
    owner = start()
    owner.take({P: 10, Q: 10})
    owner.begin(*P, after=0)
    owner.begin(*Q, after=0)
    owner.appended({P, Q})
    owner.drop(*P)
    owner = start()
    assert owner.goes_on(*Q)
    assert not owner.goes_on(*P)


def test_what_did_not_come_back_with_the_first_assignment_is_given_up(start):
    owner = start()
    owner.take({P: 10, Q: 10})
    owner.begin(*P, after=0)
    owner.begin(*Q, after=0)
    owner.appended({P, Q})
    owner = start()
    owner.take({P: 10})
    assert not owner.goes_on(*Q)
    owner = start()
    assert owner.goes_on(*P)
    assert not owner.goes_on(*Q)


def test_after_a_restart_the_tape_counts_only_for_what_it_has_of_the_present_time(start):
    owner = start()
    owner.take({P: 10})
    owner.begin(*P, after=0)
    owner.appended({P})
    owner.drop(*P)
    owner.take({P: 5})
    # Under way when it was given up: of the old time, as sinks passed over what the tape has behind 5.
    owner.appended({P})
    owner.begin(*P, after=40)
    assert not start().goes_on(*P), "the tape's position is still of the old time"
    owner.appended({P, Q})
    owner = start()
    assert owner.goes_on(*P)
    assert not owner.goes_on(*Q)
    owner.take({P: 12})
    assert owner.behind(39) == ({}, 40)
    assert start().goes_on(*P)


def test_another_tape_remembers_nothing(start):
    owner = start()
    owner.take({P: 10})
    owner.begin(*P, after=0)
    owner.appended({P})
    assert start().goes_on(*P)
    assert not start(epoch=EPOCH + 1).goes_on(*P)


def test_positions_of_an_earlier_time_as_owner_are_forgotten():
    progress = Progress(3, [(7, 0, 8, 0), (7, 1, 4, 0)])
    progress.note(5, [(7, 0, 9, 0)])
    progress.note_horizons([(7, 0, 9, 2), (7, 1, 4, 1)])
    assert set(progress.reached(4)) == {(7, 0, 8, 0), (7, 1, 4, 0)}
    progress.forget(*P)
    assert progress.until(10) == [(7, 1, 4, 0)]
    assert progress.lowest((7, 0, 9, 0)) is None
    assert progress.lowest((7, 1, 4, 0)) == 1
