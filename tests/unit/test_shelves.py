"""What waits of all partitions is counted right, whatever is put, taken, thrown away or given up."""

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

pytest.importorskip("confluent_kafka")

from tickcast._core import Inbox
from tickcast.commits import CommitNote
from tickcast.sources.shelf import Shelf
from tickcast.sources.shelves import MOST_BYTES, MOST_MESSAGES, Shelves

PARTITIONS = st.integers(0, 3)


def inbox(offsets: range, size: int = 8) -> Inbox:
    return Inbox([(offset, 1000 + offset, bytes(size), None, []) for offset in offsets])


class Member(RuleBasedStateMachine):
    """Partitions come and go; a model keeps the offsets that wait of each."""

    def __init__(self) -> None:
        super().__init__()
        self.shelves = Shelves()
        self.waiting: dict[int, list[int]] = {}
        self.next = 0

    @rule(partition=PARTITIONS, resume=st.integers(0, 30))
    def add(self, partition: int, resume: int) -> None:
        if partition not in self.waiting:
            self.shelves.add({partition: Shelf(resume, 0, goes_on=False)})
            self.waiting[partition] = []

    @rule(partition=PARTITIONS, count=st.integers(1, 5))
    def put(self, partition: int, count: int) -> None:
        offsets = range(self.next, self.next + count)
        self.next += count
        self.shelves.put([(partition, inbox(offsets))])
        if partition in self.waiting:
            self.waiting[partition] += offsets

    @precondition(lambda self: self.shelves.filled())
    @rule(most=st.integers(1, 8))
    def take_of_all(self, most: int) -> None:
        found = self.shelves.take(self.shelves.filled(), most)
        assert 1 <= sum(len(inbox) for _, inboxes in found for inbox in inboxes) <= most
        for partition, inboxes in found:
            count = sum(map(len, inboxes))
            assert inboxes[-1].last_offset == self.waiting[partition][count - 1]
            del self.waiting[partition][:count]

    @precondition(lambda self: self.shelves.filled())
    @rule(most=st.integers(1, 8))
    def take(self, most: int) -> None:
        oldest = min(at for offsets in self.waiting.values() for at in offsets)
        partition, shelf = self.shelves.filled()[0]
        assert self.waiting[partition][0] == oldest, "whose oldest message waits longest comes first"
        silent = shelf.is_silent
        [(taken_of, inboxes)] = self.shelves.take([(partition, shelf)], most)
        count = sum(map(len, inboxes))
        assert taken_of == partition
        assert 1 <= count <= most
        assert inboxes[-1].last_offset == self.waiting[partition][count - 1]
        del self.waiting[partition][:count]
        if not silent:
            assert self.shelves.reached()[partition] == inboxes[-1].last_offset + 1

    @rule(partition=PARTITIONS)
    def clear(self, partition: int) -> None:
        self.shelves.clear([partition])
        if partition in self.waiting:
            self.waiting[partition] = []

    @rule(partition=PARTITIONS)
    def remove(self, partition: int) -> None:
        self.shelves.remove([partition])
        self.waiting.pop(partition, None)

    @invariant()
    def counts(self) -> None:
        assert self.shelves.partitions == sorted(self.waiting)
        assert self.shelves.waiting == sum(map(len, self.waiting.values()))
        assert self.shelves.waiting_bytes == 8 * self.shelves.waiting


TestMember = Member.TestCase
TestMember.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def of(partition: int, *, offsets: range = range(0), goes_on: bool = False) -> Shelves:
    shelves = Shelves()
    shelves.add({partition: Shelf(0, 5, goes_on=goes_on)})
    if offsets:
        shelves.put([(partition, inbox(offsets))])
    return shelves


def hand_out(shelves: Shelves) -> None:
    for partition, shelf in shelves.filled():
        shelf.is_fresh = False
        shelves.take([(partition, shelf)], 1000)


def test_reading_waits_above_the_most_and_goes_on_below_half_of_it() -> None:
    shelves = of(1)
    shelves.put([(1, inbox(range(MOST_MESSAGES)))])
    assert (shelves.are_full, shelves.have_room) == (False, False)
    shelves.put([(1, inbox(range(MOST_MESSAGES, MOST_MESSAGES + 1)))])
    assert shelves.are_full
    [(_, shelf)] = shelves.filled()
    while shelves.waiting >= MOST_MESSAGES // 2:
        assert not shelves.have_room
        shelves.take([(1, shelf)], 8192)
    assert (shelves.are_full, shelves.have_room) == (False, True)


def test_large_messages_are_as_much_as_many() -> None:
    shelves = of(1)
    for offset in range(5):
        assert not shelves.are_full
        shelves.put([(1, inbox(range(offset, offset + 1), MOST_BYTES // 4))])
    assert shelves.are_full
    shelves.clear([1])
    assert (shelves.are_full, shelves.have_room) == (False, True)


def test_what_is_saved_is_committed_once_and_again_where_that_failed() -> None:
    shelves = of(2, offsets=range(10))
    shelves.save((0, 2, 3, 0), None)
    assert shelves.take_commits() == {}, "nothing has been handed out to its present owner"
    hand_out(shelves)
    shelves.save((0, 2, 3, 0), None)
    shelves.save((0, 7, 3, 0), None)
    committed = shelves.take_commits()
    assert {at: (offset, CommitNote.read(note).lowest) for at, (offset, note) in committed.items()} == {2: (4, 5)}
    assert shelves.take_commits() == {}
    shelves.commit_failed([2, 7])
    assert shelves.take_commits() == committed
    shelves.save((0, 2, 2, 0), None)
    assert shelves.take_commits() == {}, "it never goes back"


def test_what_the_tape_has_of_a_partition_that_goes_on_is_committed_before_anything_is_handed_out() -> None:
    shelves = of(2, goes_on=True)
    shelves.save((0, 2, 3, 0), 1)
    assert {at: (offset, CommitNote.read(note).lowest) for at, (offset, note) in shelves.take_commits().items()} == {
        2: (4, 1)
    }


class Waiting:
    """Waits in a thread until partition 0 is saved; woken by nothing but what happens to its shelves."""

    def __init__(self, shelves: Shelves, stopped: threading.Event) -> None:
        self.found: list[bool] = []
        asked = threading.Event()

        class Stopped(threading.Event):
            def is_set(self) -> bool:
                asked.set()  # with the lock held: whoever takes it next finds the thread waiting
                return stopped.is_set()

        self._thread = threading.Thread(target=lambda: self.found.append(shelves.wait_saved([0, 9], 60.0, Stopped())))
        self._thread.start()
        assert asked.wait(30)

    def end(self) -> bool:
        self._thread.join(30)
        assert not self._thread.is_alive(), "nobody has woken it"
        return self.found[0]


def test_what_was_handed_out_is_waited_for_until_it_is_saved() -> None:
    shelves, stopped = of(0, offsets=range(5)), threading.Event()
    hand_out(shelves)
    assert not shelves.wait_saved([0], 0.0, stopped)
    waiting = Waiting(shelves, stopped)
    shelves.save((0, 0, 4, 0), None)
    assert waiting.end()


def test_who_is_stopped_waits_for_nothing() -> None:
    shelves, stopped = of(0, offsets=range(5)), threading.Event()
    hand_out(shelves)
    waiting = Waiting(shelves, stopped)
    stopped.set()
    shelves.wake()
    assert waiting.end()


def test_silent_partitions_are_looked_up_together_and_once() -> None:
    shelves = Shelves()
    shelves.add({at: Shelf(5, 0, goes_on=False) for at in (0, 1)} | {2: Shelf(0, 0, goes_on=False)})
    shelves.put([(at, inbox(range(at + 1, 4))) for at in (0, 1, 2)])
    assert shelves.to_look_up() == {0: 1001, 1: 1002}
    assert shelves.to_look_up() == {}


def test_nothing_is_done_for_a_partition_that_has_changed_hands() -> None:
    shelves, done = of(4, offsets=range(1)), list[str]()
    [(_, before)] = shelves.filled()
    shelves.if_there(4, lambda: done.append("it"), shelf=before)
    shelves.remove([4])
    shelves.if_there(4, lambda: done.append("given up"))
    shelves.add({4: Shelf(0, 0, goes_on=False)})
    shelves.if_there(4, lambda: done.append("another"), shelf=before)
    shelves.if_there(4, lambda: done.append("any"))
    assert done == ["it", "any"]
