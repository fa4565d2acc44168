"""What waits of the partitions of a Kafka topic, between the thread that reads and the loop that judges."""

import threading
from collections.abc import Callable, Iterable

from tickcast._core import Inbox
from tickcast.commits import CommitNote
from tickcast.sources.base import Position
from tickcast.sources.shelf import Shelf

__all__ = ["Shelves"]

MOST_MESSAGES, MOST_BYTES = 65_536, 64 * 1024 * 1024
"""What may wait to be decoded."""
BYTES_PER_ROW = 40
"""No tick is much shorter: bounds the rows of a batch before it is decoded."""


class Shelves:
    """The shelf of each partition that this member of the group has. Used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._shelves: dict[int, Shelf] = {}
        self._messages = self._bytes = 0

    @property
    def partitions(self) -> list[int]:
        """The partitions that are there."""
        with self._lock:
            return sorted(self._shelves)

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return self._messages

    @property
    def waiting_bytes(self) -> int:
        """Bytes of them."""
        return self._bytes

    @property
    def are_full(self) -> bool:
        """More waits than should."""
        return self._messages > MOST_MESSAGES or self._bytes > MOST_BYTES

    @property
    def have_room(self) -> bool:
        """So little waits that reading can go on."""
        return self._messages < MOST_MESSAGES // 2 and self._bytes < MOST_BYTES // 2

    def add(self, shelves: dict[int, Shelf]) -> None:
        """Begin with partitions."""
        with self._lock:
            self._shelves.update(shelves)

    def remove(self, partitions: list[int]) -> None:
        """Know nothing of partitions any more; what waits of them is thrown away."""
        with self._lock:
            self.clear(partitions)
            for partition in partitions:
                self._shelves.pop(partition, None)

    def if_there(self, partition: int, then: Callable[[], None], *, shelf: Shelf | None = None) -> None:
        """Do something while a partition can't be given away: if it is there, with this shelf if one is named."""
        with self._lock:
            known = self._shelves.get(partition)
            if known is not None and shelf in {None, known}:
                then()

    def lowest(self, partition: int) -> int | None:
        """Return the offset from which a partition has been read; None: not known."""
        with self._lock:
            shelf = self._shelves.get(partition)
            return shelf.lowest if shelf is not None else None

    def reached(self) -> dict[int, int]:
        """Return the next offset of each partition to be handed out for trades."""
        with self._lock:
            return {at: max(shelf.resume, shelf.taken + 1) for at, shelf in sorted(self._shelves.items())}

    def put(self, inboxes: list[tuple[int, Inbox]]) -> None:
        """Put messages on the shelves of their partitions; those of others are left out."""
        with self._lock:
            for partition, inbox in inboxes:
                shelf = self._shelves.get(partition)
                if shelf is not None:
                    shelf.inboxes.append(inbox)
                    self._messages += len(inbox)
                    self._bytes += inbox.size

    def filled(self) -> list[tuple[int, Shelf]]:
        """Return the partitions of which messages wait: first the one whose oldest, by broker time, waits longest."""
        with self._lock:
            filled = [(shelf.inboxes[0].first_ms, at) for at, shelf in self._shelves.items() if shelf.inboxes]
            return [(at, self._shelves[at]) for _, at in sorted(filled)]

    def take(self, shelves: list[tuple[int, Shelf]], max_rows: int) -> list[tuple[int, list[Inbox]]]:
        """Take messages off shelves, by partition, as many as make a batch."""
        found = []
        messages, size = max_rows, max_rows * BYTES_PER_ROW
        with self._lock:
            for partition, shelf in shelves:
                taken = shelf.take(messages, size)
                if taken:
                    found.append((partition, taken))
                    count, taken_bytes = sum(map(len, taken)), sum(inbox.size for inbox in taken)
                    messages, size = messages - count, size - taken_bytes
                    self._messages -= count
                    self._bytes -= taken_bytes
        return found

    def clear(self, partitions: Iterable[int]) -> None:
        """Throw away what waits of partitions."""
        with self._lock:
            for partition in partitions:
                shelf = self._shelves.get(partition)
                if shelf is not None:
                    messages, size = shelf.clear()
                    self._messages -= messages
                    self._bytes -= size

    def to_look_up(self) -> dict[int, int]:
        """Return the partitions whose silent ticks have not been looked up, with the time of the first, in ms.

        They count as looked up from now on.
        """
        with self._lock:
            asked = {at: shelf for at, shelf in self._shelves.items() if shelf.is_silent and not shelf.looked_up}
            for shelf in asked.values():
                shelf.looked_up = True
            return {at: shelf.inboxes[0].first_ms for at, shelf in asked.items()}

    def save(self, position: Position, lowest: int | None) -> None:
        """Note that tape and sinks have a partition up to a position, to be committed with the lowest offset needed."""
        stream, partition, offset, _ = position
        with self._lock:
            shelf = self._shelves.get(partition)
            if shelf is None or shelf.stream != stream or offset <= shelf.saved:
                return
            if shelf.is_fresh and not shelf.goes_on:
                return  # a position of an earlier time as its owner
            shelf.saved = offset
            note = CommitNote(shelf.lowest if lowest is None else lowest, stream=shelf.stream)
            shelf.wanted = (offset + 1, note.text())
            self._lock.notify_all()

    @property
    def are_saved(self) -> bool:
        """Whether nothing waits, and tape and sinks have what was handed out."""
        with self._lock:
            return not self._messages and all(shelf.saved >= shelf.taken for shelf in self._shelves.values())

    def wait_saved(self, partitions: list[int], timeout_s: float, stopped: threading.Event) -> bool:
        """Wait until tape and sinks have what was handed out of partitions, or until stopped; False if they don't."""

        def saved() -> bool:
            shelves = [self._shelves[p] for p in partitions if p in self._shelves]
            return stopped.is_set() or all(shelf.saved >= shelf.taken for shelf in shelves)

        with self._lock:
            return self._lock.wait_for(saved, timeout_s)

    def wake(self) -> None:
        """Have whoever waits look again."""
        with self._lock:
            self._lock.notify_all()

    def take_commits(self) -> dict[int, tuple[int, str]]:
        """Return what is to be committed: offset and note of each partition that has moved on.

        It counts as committed until `commit_failed`.
        """
        with self._lock:
            wanted = {p: s.wanted for p, s in self._shelves.items() if s.wanted and s.wanted != s.committed}
            for partition, note in wanted.items():
                self._shelves[partition].committed = note
        return wanted

    def commit_failed(self, partitions: Iterable[int]) -> None:
        """Have partitions committed again."""
        with self._lock:
            for partition in partitions:
                if partition in self._shelves:
                    self._shelves[partition].committed = None
