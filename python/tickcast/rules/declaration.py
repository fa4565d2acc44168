"""What a rule set declares, without its code: how processes tell each other which rules there are.

The processor never needs the user's functions, only this: names for the tape, reasons, the columns of enrichments.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Declaration", "Enrichment", "Kind", "RuleInfo"]

Kind = Literal["check", "check_each", "enrich", "adopt"]


class Enrichment(msgspec.Struct, frozen=True):
    """One further column on the trade."""

    name: str
    unit: str = ""
    """Unit of the values, as shown to people; empty: none given."""


class RuleInfo(msgspec.Struct, frozen=True):
    """One rule."""

    name: str
    kind: Kind
    reason: str
    """The declared reason of a reject; of per-tick rules: what is said when they reject without giving a reason."""
    asynchronous: bool = False
    shadow: bool = False
    """Its verdicts are counted and decide nothing."""
    lookback_ns: int = 0
    """It remembers ticks of so long a time, ns: after a start they are shown to it again."""


class Declaration(msgspec.Struct, frozen=True):
    """A rule set: rules in declared order, and the enrichments they give."""

    name: str
    version: str
    rules: tuple[RuleInfo, ...] = ()
    enrichments: tuple[Enrichment, ...] = ()

    @property
    def label(self) -> str:
        """``name@version``, as it stands in the tape."""
        return f"{self.name}@{self.version}"

    @property
    def lookback_ns(self) -> int:
        """How far back the rules remember ticks, ns; 0: none does."""
        return max((rule.lookback_ns for rule in self.rules), default=0)

    @property
    def shadow(self) -> frozenset[int]:
        """Numbers, from 1, of the rules whose verdicts decide nothing."""
        return frozenset(number for number, rule in enumerate(self.rules, start=1) if rule.shadow)

    def reasons(self) -> list[str]:
        """Return the reasons known beforehand; free texts of a batch are numbered after them.

        Index 0 is no reason, ``r`` the declared reason of rule ``r`` (from 1), ``len(rules) + r`` its
        ``Rule unavailable``.
        """
        declared = [rule.reason for rule in self.rules]
        return ["", *declared, *(f"Rule unavailable: {rule.name}" for rule in self.rules)]
