"""What the rules say of a batch: `Verdicts`, row by row with the ticks they were asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcast.rules.declaration import Declaration

__all__ = ["INVALID", "UNKNOWN", "VALID", "Verdicts"]

UNKNOWN: Final = 0
VALID: Final = 1
INVALID: Final = 2


@dataclass(slots=True, eq=False)
class Verdicts:
    """The verdicts of a batch of ``n`` ticks under ``k`` enrichments."""

    status: NDArray[np.uint8]
    """Shape ``(n,)``: 1 VALID, 2 INVALID, 0 UNKNOWN (the numbers of ``ValidationStatus``)."""
    rule: NDArray[np.uint16]
    """Shape ``(n,)``: the rule that decided, from 1 in declared order; 0: none."""
    reason: NDArray[np.uint32]
    """Shape ``(n,)``: index into `reasons`; 0: none."""
    observed: NDArray[np.float64]
    """Shape ``(n,)``: what the rejecting check looked at; NaN: not said."""
    limit: NDArray[np.float64]
    """Shape ``(n,)``: what it was held against; NaN: not said."""
    enrichments: NDArray[np.float64]
    """Shape ``(k, n)``: in declared order; NaN where the trade is not VALID or the rule gave none."""
    reasons: list[str]
    """Reasons by index; the first, empty one means none."""
    is_text: list[bool]
    """For each entry of `reasons`: True for free text of this batch, False for a reason known from the declaration."""

    def __len__(self) -> int:
        """Number of ticks."""
        return len(self.status)

    def reason_of(self, row: int) -> str | None:
        """Return the reason of one row, None where there is none."""
        return self.reasons[self.reason[row]] or None

    def cleared(self, declaration: Declaration) -> Verdicts:
        """Return these verdicts, all VALID, as `blank` ones are."""
        self.status[:] = VALID
        self.rule[:] = 0
        self.reason[:] = 0
        for column in (self.observed, self.limit, self.enrichments):
            column[...] = np.nan
        return self.with_reasons(declaration, [])

    def with_reasons(self, declaration: Declaration, texts: list[str]) -> Verdicts:
        """Return these verdicts with the declared reasons and the free texts that they are numbered by."""
        reasons = declaration.reasons()
        self.reasons, self.is_text = reasons + texts, [False] * len(reasons) + [True] * len(texts)
        return self

    @classmethod
    def blank(cls, rows: int, declaration: Declaration | None) -> Verdicts:
        """Return verdicts that call every row VALID, to be filled in."""
        reasons = declaration.reasons() if declaration else [""]
        return cls(
            status=np.full(rows, VALID, np.uint8),
            rule=np.zeros(rows, np.uint16),
            reason=np.zeros(rows, np.uint32),
            observed=np.full(rows, np.nan),
            limit=np.full(rows, np.nan),
            enrichments=np.full((len(declaration.enrichments) if declaration else 0, rows), np.nan),
            reasons=reasons,
            is_text=[False] * len(reasons),
        )
