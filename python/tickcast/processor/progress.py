"""How far the tape and all sinks have come, in positions of the source: what may be committed upstream."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence

from tickcast.sources.base import Position

__all__ = ["Progress"]

Partition = tuple[int, int]


class Progress:
    """Remembers which sequence brought the tape to which position. Used from any thread.

    Args:
        head: The tape's head when it was taken up.
        positions: Its positions then.
    """

    def __init__(self, head: int, positions: Sequence[Position]) -> None:
        self._lock = threading.Lock()
        self._notes: deque[tuple[int, Position]] = deque((head, position) for position in positions)
        self._passed: dict[Partition, Position] = {}
        self._lowest: dict[Partition, deque[tuple[int, int]]] = {}

    def note(self, sequence: int, positions: Iterable[Position]) -> None:
        """Learn that the tape is at `positions` with `sequence`."""
        with self._lock:
            self._notes.extend((sequence, position) for position in positions)

    def note_horizons(self, horizons: Iterable[tuple[int, int, int, int]]) -> None:
        """Learn from where windows need each partition: (stream, partition, next offset, lowest offset)."""
        with self._lock:
            for stream, partition, following, lowest in horizons:
                known = self._lowest.setdefault((stream, partition), deque())
                if not known or known[-1] != (following, lowest):
                    known.append((following, lowest))

    def forget(self, stream: int, partition: int) -> None:
        """Forget all positions of a partition: they are of an earlier time as its owner."""
        with self._lock:
            self._notes = deque((at, position) for at, position in self._notes if position[:2] != (stream, partition))
            self._passed.pop((stream, partition), None)
            self._lowest.pop((stream, partition), None)

    def until(self, sequence: int) -> list[Position]:
        """Return the newest position of each partition that the tape had by `sequence`."""
        with self._lock:
            there = (position for at, position in self._notes if at <= sequence)
            return _newest([*self._passed.values(), *there])

    def reached(self, sequence: int) -> list[Position]:
        """Return the newest position of each partition that the tape had by `sequence`, each once."""
        with self._lock:
            passed = []
            while self._notes and self._notes[0][0] <= sequence:
                passed.append(self._notes.popleft()[1])
            newest = _newest(passed)
            self._passed.update({position[:2]: position for position in newest})
            return newest

    def lowest(self, position: Position) -> int | None:
        """Return the offset from which the windows that stood at `position` can be had again; None: not known.

        Windows run ahead of what is committed, and have let go by then of what a reader at `position` would need: so
        what counts is the newest horizon that was taken at or before it.
        """
        with self._lock:
            known = self._lowest.get(position[:2])
            if not known:
                return None
            while len(known) > 1 and known[1][0] <= position[2] + 1:
                known.popleft()
            following, lowest = known[0]
            return lowest if following <= position[2] + 1 else None


def _newest(positions: Iterable[Position]) -> list[Position]:
    found: dict[Partition, Position] = {}
    for position in positions:
        partition = position[:2]
        if partition not in found or found[partition] < position:
            found[partition] = position
    return list(found.values())
