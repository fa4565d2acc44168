"""The memory that a worker shares with its parent: notes, then slots for one part of a batch each.

    |  notes and counts  | slot 0                      | slot 1 | …
    |  (notes.py)        | columns in   | verdicts out |

A slot has room for ``rows`` ticks; a part of ``n`` ticks lies packed at its beginning, each column right after the one
before (those of 8 bytes first, so all are aligned). The parent writes the columns and sends an `Order`; from then on
the slot is the worker's, until its `Verdict` comes. Of a worker that died nothing but the notes is read.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tickcast.rules.notes import FLAGS, Notes
from tickcast.rules.verdicts import Verdicts
from tickcast.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tickcast.rules.declaration import Declaration

__all__ = ["SLOTS", "SLOT_ROWS", "Slots"]

SLOTS: Final = 8
"""Parts of batches that a worker has at once."""
SLOT_ROWS: Final = 8192
"""Room for a batch of `judge.batch_rows` and a bit: the last message of one is never cut, and it shall not go apart."""

_COLUMNS: Final = (("price", "f8"), ("volume", "i8"), ("timestamp_ns", "i8"), ("vwap_20m", "f8"), ("now_ns", "i8"))
_IN_BYTES: Final = 8 * len(_COLUMNS) + 4  # and the instrument codes
_OUT_BYTES: Final = 8 + 8 + 4 + 2 + 1  # observed, limit, reason, rule, status; enrichments come to it
_PAGE: Final = 4096


class Slots:
    """The mapping, from either side.

    Args:
        fd: A memory file; the parent's side makes it as long as needed.
        declaration: Of the rule set: numbers of rules and enrichments.
        slots: Number of slots, at most 48.
        rows: Ticks that one slot holds.
        create: Whether this is the parent's side.

    Raises:
        OSError: There is no memory left.
    """

    def __init__(self, fd: int, declaration: Declaration, slots: int, rows: int, *, create: bool) -> None:
        self._declaration = declaration
        self._enrichments = len(declaration.enrichments)
        self._first = _round_up(8 * Notes.size(len(declaration.rules)))
        self._in_bytes = _round_up(rows * _IN_BYTES)
        self._slot_bytes = self._in_bytes + _round_up(rows * (_OUT_BYTES + 8 * self._enrichments))
        size = self._first + slots * self._slot_bytes
        if create:
            os.ftruncate(fd, size)
        self._memory = mmap.mmap(fd, size)
        self._bytes = memoryview(self._memory)
        self.words = self._bytes[: self._first].cast("q")
        """The notes; see `notes.py`."""
        self.free = list(range(slots))
        """Slots not in use; kept by the parent."""

    def put(self, slot: int, ticks: Ticks, rows: slice | NDArray[np.intp]) -> None:
        """Write some rows of a batch into a slot."""
        self.words[FLAGS + slot] = 0
        at = self._first + slot * self._slot_bytes
        for name, dtype in _COLUMNS:
            column = getattr(ticks, name)[rows]
            np.frombuffer(self._memory, dtype, len(column), at)[:] = column
            at += 8 * len(column)
        part = ticks.instrument[rows]
        np.frombuffer(self._memory, np.int32, len(part), at)[:] = part

    def get(self, slot: int, rows: int, instruments: Sequence[str]) -> Ticks:
        """Return the ticks in a slot, and note that they are begun.

        They are views of a copy of the slot: one `memcpy`, for which a rule may keep them when the slot holds others.
        """
        self.words[FLAGS + slot] = 1
        at = self._first + slot * self._slot_bytes
        memory = bytes(self._bytes[at : at + rows * _IN_BYTES])
        columns = {name: np.frombuffer(memory, dtype, rows, 8 * rows * i) for i, (name, dtype) in enumerate(_COLUMNS)}
        columns["instrument"] = np.frombuffer(memory, np.int32, rows, 8 * rows * len(_COLUMNS))
        return Ticks.of_columns(columns, instruments)

    def begun(self, slot: int) -> bool:
        """Return whether the worker has begun with a slot."""
        return bool(self.words[FLAGS + slot])

    def answer(self, slot: int, rows: int) -> Verdicts:
        """Return the verdicts in a slot, to be written in place."""
        return self._verdicts(self._memory, self._first + slot * self._slot_bytes + self._in_bytes, rows)

    def take_answer(self, slot: int, rows: int) -> Verdicts:
        """Return a copy of the verdicts in a slot: one `memcpy` for all columns."""
        at = self._first + slot * self._slot_bytes + self._in_bytes
        return self._verdicts(bytearray(self._bytes[at : at + rows * (_OUT_BYTES + 8 * self._enrichments)]), 0, rows)

    def _verdicts(self, memory: mmap.mmap | bytearray, at: int, rows: int) -> Verdicts:
        columns: list[NDArray[Any]] = []
        for dtype, width in (("f8", 1), ("f8", 1), ("f8", self._enrichments), ("u4", 1), ("u2", 1), ("u1", 1)):
            columns.append(np.frombuffer(memory, dtype, rows * width, at))
            at += columns[-1].nbytes
        observed, limit, enrichments, reason, rule, status = columns
        enrichments = enrichments.reshape(self._enrichments, rows)
        return Verdicts(status, rule, reason, observed, limit, enrichments, [], [])

    def close(self) -> None:
        """Give the memory back, as soon as no view of it is left."""
        self.words.release()
        self._bytes.release()


def _round_up(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
