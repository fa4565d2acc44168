"""Instrument codes that keep their meaning for the life of a runner, wherever batches come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcast.ticks import Ticks

__all__ = ["Names"]

_FEW: Final = 64


class Names:
    """Numbers instruments in the order of their appearance.

    The processor's batches all share one growing list of instruments, whose codes are then taken as they are. Batches
    that bring lists of their own are translated.
    """

    def __init__(self) -> None:
        self.known: list[str] = []
        """Code to instrument id; only ever grows."""
        self._codes: dict[str, int] = {}
        self._source: Sequence[str] | None = None

    def recode(self, ticks: Ticks) -> Ticks:
        """Return the batch in codes of this object; the same object where it is in them already.

        Raises:
            IndexError: A code of the batch is not in its ``instruments``.
        """
        if not len(ticks):
            return ticks
        names = ticks.instruments
        if self._source is None and not self.known:
            self._source = names
        codes = ticks.instrument
        # A reduction of NumPy for three ticks was a twentieth of what the processor does for them.
        highest = max(codes.tolist()) if len(codes) <= _FEW else int(codes.max())
        if names is self._source:
            self._follow(names, highest)
            if names is self._source:
                return ticks
        used = np.unique(ticks.instrument)
        table = np.zeros(highest + 1, np.int32)
        table[used] = [self._code(names[code]) for code in used.tolist()]
        return ticks.with_codes(table[ticks.instrument], self.known)

    def _follow(self, names: Sequence[str], highest: int) -> None:
        """Take over new names of the shared list; where they don't fit, the list is followed no longer."""
        for code in range(len(self.known), highest + 1):
            if self._code(names[code]) != code:
                self._source = None
                return

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.known)
            self.known.append(name)
        return code
