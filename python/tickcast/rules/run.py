"""One batch on its way through the rules: which rows still stand, and what was said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from tickcast.rules.verdicts import INVALID, UNKNOWN, VALID, Verdicts

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from tickcast.rules.declaration import Declaration
    from tickcast.rules.notes import Notes
    from tickcast.rules.ruleset import Rule
    from tickcast.ticks import Ticks

    F64 = NDArray[np.float64]

__all__ = ["Blocked", "Run", "Share", "Work", "message_of"]

Blocked = Mapping[int, "AbstractSet[int] | None"]
"""Rules not to be called, by number from 1: for these instrument codes, or (None) for all."""

MESSAGE_CHARS: Final = 500

_STATUS: Final[dict[object, int]] = {
    "VALID": VALID, "INVALID": INVALID, "UNKNOWN": UNKNOWN, VALID: VALID, INVALID: INVALID, UNKNOWN: UNKNOWN,
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Work:
    """A batch to be judged, and how."""

    ticks: Ticks
    task: int = 0
    """Number of the task, for the notes."""
    blocked: Blocked = field(default_factory=dict)
    """Rules judged by policy instead of being called: their breaker is open."""
    isolate: AbstractSet[int] = frozenset()
    """Rules to be called for one instrument at a time: one of them hung or died on this batch."""
    only: int = 0
    """Call this rule alone (a probe); 0: all."""
    verdicts: Verdicts | None = None
    """Where to write what is said, whatever stands there; None: in memory of its own."""


def message_of(error: BaseException) -> str:
    """Return what an exception says, on one line and bounded; its type where it says nothing."""
    try:
        text = " ".join(str(error).splitlines()).strip()
    except Exception:  # even __str__ is user code
        text = ""
    if not text or not isinstance(error, Exception):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = _clean(text)
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


class Share(NamedTuple):
    """What a rule is called for: ticks, their row numbers in the batch, and the instrument (or MANY) they are of."""

    ticks: Ticks
    rows: NDArray[np.intp]
    code: int

    def span(self, start: int, stop: int) -> Share:
        """Return a part of it."""
        return Share(self.ticks.span(start, stop), self.rows[start:stop], self.code)


class Run:
    """A batch under judgement. Row numbers are those of the whole batch, whatever still stands.

    Args:
        work: The batch.
        declaration: Of the rule set.
        fail_open: The policy for rules that are not available: True UNKNOWN, False INVALID.
        notes: Where to count what rules in shadow would have refused.
    """

    __slots__ = (
        "_notes",
        "_rules",
        "_shadow",
        "_texts",
        "_unavailable",
        "late",
        "rows",
        "task",
        "ticks",
        "verdicts",
        "work",
    )

    def __init__(self, work: Work, declaration: Declaration, fail_open: bool, notes: Notes) -> None:
        self.work = work
        self.task = work.task
        self.ticks = work.ticks
        """The ticks that still stand."""
        self.rows: NDArray[np.intp] | None = None
        """Their row numbers; None: all of them."""
        if work.verdicts is None:
            self.verdicts = Verdicts.blank(len(work.ticks), declaration)
        else:
            self.verdicts = work.verdicts.cleared(declaration)
        self.late: list[tuple[int, int]] = []
        """Awaits cut off at the deadline: (rule, instrument code)."""
        self._rules = len(declaration.rules)
        self._texts: dict[str, int] = {}
        self._unavailable = UNKNOWN if fail_open else INVALID
        self._shadow = declaration.shadow
        self._notes = notes

    def row_numbers(self) -> NDArray[np.intp]:
        """Return the row numbers of the ticks that still stand."""
        return np.arange(len(self.ticks)) if self.rows is None else self.rows

    def reject(self, rows: NDArray[np.intp], rule: int, observed: F64 | None = None, limit: F64 | None = None) -> None:
        """Call rows INVALID for the rule's declared reason."""
        if self._counted_only(rule, len(rows)):
            return
        verdicts = self.verdicts
        verdicts.status[rows] = INVALID
        verdicts.rule[rows] = rule
        verdicts.reason[rows] = rule
        if observed is not None and limit is not None:
            verdicts.observed[rows] = observed
            verdicts.limit[rows] = limit

    def reject_row(self, row: int, rule: int, reason: str | None, status: int = INVALID) -> None:
        """Call one row INVALID (or UNKNOWN) for a reason of its own, or the declared one."""
        if self._counted_only(rule, 1):
            return
        verdicts = self.verdicts
        verdicts.status[row] = status
        verdicts.rule[row] = rule
        verdicts.reason[row] = self._text(reason) if reason else rule

    def raised(self, rows: NDArray[np.intp] | int, rule: Rule, error: BaseException) -> None:
        """Call rows INVALID because the rule raised on them."""
        if self._counted_only(rule.index, np.size(rows)):
            return
        verdicts = self.verdicts
        verdicts.status[rows] = INVALID
        verdicts.rule[rows] = rule.index
        verdicts.reason[rows] = self._text(f"Processing error: {rule.info.name}: {message_of(error)}")

    def unavailable(self, rows: NDArray[np.intp] | int, rule: int) -> None:
        """Judge rows by policy: the rule could not be asked. One in shadow is missed by nobody."""
        if rule in self._shadow:
            return
        verdicts = self.verdicts
        verdicts.status[rows] = self._unavailable
        verdicts.rule[rows] = rule
        verdicts.reason[rows] = self._rules + rule

    def take_answer(self, row: int, rule: Rule, answer: object) -> None:
        """Take what a per-tick function returned; raises where that is none of the allowed answers."""
        if rule.info.kind == "adopt":
            self._take_assessment(row, rule, answer)
        elif answer is not None:
            if not isinstance(answer, str) or not answer:
                raise TypeError(f"expected None or a reason, was {answer!r:.100}{_await_hint(answer)}")
            self.reject_row(row, rule.index, _clean(answer))

    def _counted_only(self, rule: int, rows: int) -> bool:
        """Count what a rule in shadow would have decided; return whether it is in shadow."""
        if rule not in self._shadow:
            return False
        self._notes.count_refused(rule, rows)
        return True

    def settle(self) -> None:
        """Leave out of `ticks` what no longer stands."""
        stands = self.verdicts.status == VALID
        if np.count_nonzero(stands) != len(self.ticks):
            self.rows = np.flatnonzero(stands)
            self.ticks = self.work.ticks.take(self.rows)

    def finish(self) -> Verdicts:
        """Return the verdicts; enrichments only where the trade is VALID."""
        verdicts = self.verdicts
        if self.rows is not None and len(verdicts.enrichments):
            verdicts.enrichments[:, verdicts.status != VALID] = np.nan
        verdicts.reasons += self._texts
        verdicts.is_text += [True] * len(self._texts)
        return verdicts

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, 1 + 2 * self._rules + len(self._texts))

    def _take_assessment(self, row: int, rule: Rule, answer: object) -> None:
        get = answer.get if isinstance(answer, Mapping) else partial(_attribute, answer)
        status = _status_of(get("status"), answer)
        if status != VALID:
            reason = get("reason")
            self.reject_row(row, rule.index, _clean(str(reason)) if reason else None, status)
            return
        for name, column in rule.columns:
            value = get(name)
            if value is not None:
                self.verdicts.enrichments[column, row] = float(value)


def _attribute(answer: object, name: str) -> Any:  # noqa: ANN401 - it is the user's
    return getattr(answer, name, None)


def _clean(text: str) -> str:
    """Return text that can be encoded: lone surrogates can't."""
    return text.encode("utf-8", "replace").decode()


def _status_of(value: object, answer: object) -> int:
    """Read VALID / INVALID / UNKNOWN from a name, a number or a member of any enum."""
    if not isinstance(value, bool):
        for candidate in (value, getattr(value, "name", None), getattr(value, "value", None)):
            try:
                status = _STATUS.get(candidate)
            except TypeError:  # not hashable
                continue
            if status is not None:
                return status
    hint = _await_hint(answer)
    raise TypeError(f"status must be VALID or INVALID, was {value!r:.100}{hint}")


def _await_hint(answer: object) -> str:
    if not hasattr(answer, "__await__"):
        return ""
    close = getattr(answer, "close", None)
    if close is not None:
        close()  # a coroutine nobody will await
    return " (declare the rule with asynchronous=True)"
