"""A batch under way to the workers, and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tickcast.rules.verdicts import Verdicts

if TYPE_CHECKING:
    import asyncio

    import numpy as np
    from numpy.typing import NDArray

    from tickcast.rules.declaration import Declaration
    from tickcast.ticks import Ticks

__all__ = ["Batch", "Part"]


@dataclass(slots=True, eq=False)
class Part:
    """Some rows of a batch, as one worker gets them."""

    number: int
    """Unique, and rising in the order of the tape."""
    batch: Batch
    rows: slice | NDArray[np.intp]
    size: int
    isolate: set[int] = field(default_factory=set)
    """Rules to be called for one instrument at a time."""
    deaths: list[tuple[int, int]] = field(default_factory=list)
    """What the workers that died on it were at: (rule, instrument code or MANY); rule 0: nothing noted."""

    @property
    def ticks(self) -> Ticks:
        """The ticks of this part."""
        rows = self.rows
        return self.batch.ticks.span(rows.start, rows.stop) if isinstance(rows, slice) else self.batch.ticks.take(rows)


class Batch:
    """A batch whose parts come back one by one."""

    __slots__ = ("_left", "_verdicts", "declaration", "future", "ticks")

    def __init__(self, ticks: Ticks, declaration: Declaration, future: asyncio.Future[Verdicts]) -> None:
        self.ticks = ticks
        self.future = future
        self.declaration = declaration
        self._left = 0
        self._verdicts: Verdicts | None = None

    def part(self, number: int, rows: slice | NDArray[np.intp]) -> Part:
        """Make a part of these rows."""
        self._left += 1
        size = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        return Part(number, self, rows, size)

    def take(self, part: Part, answer: Verdicts, texts: list[str]) -> Verdicts | None:
        """Put in the verdicts of one part; return all of them once the last is in."""
        verdicts, rows = self._verdicts, part.rows
        if part.size == len(self.ticks) and isinstance(rows, slice):
            return answer.with_reasons(self.declaration, texts)
        if verdicts is None:
            verdicts = self._verdicts = Verdicts.blank(len(self.ticks), self.declaration)
        for name in ("status", "rule", "reason", "observed", "limit"):
            getattr(verdicts, name)[rows] = getattr(answer, name)
        if len(verdicts.enrichments):
            verdicts.enrichments[:, rows] = answer.enrichments
        if texts:
            # Free texts are numbered per part, after the declared reasons.
            first = 1 + 2 * len(self.declaration.rules)
            moved = len(verdicts.reasons) - first
            if moved:
                reason = verdicts.reason[rows]
                reason[reason >= first] += moved
                verdicts.reason[rows] = reason
            verdicts.reasons += texts
            verdicts.is_text += [True] * len(texts)
        self._left -= 1
        return None if self._left else verdicts
