"""What one sees of the rules from outside: `RulesState`, for the status board, `/metrics` and the log."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["BreakerState", "Mode", "RuleCounters", "RuleState", "RulesState", "WorkerState"]

Breaker = Literal["closed", "open", "half-open"]
Mode = Literal["live", "shadow"]
"""Whether a rule's verdicts decide, or are only counted."""


class WorkerState(msgspec.Struct, rename="camel"):
    """One worker process."""

    pid: int
    role: Literal["worker", "spare", "probe"]
    state: Literal["starting", "idle", "busy", "isolating"]
    respawns: int
    """How often the process in this place was replaced."""


class RuleState(msgspec.Struct, rename="camel"):
    """One rule, summed over all workers since the start."""

    name: str
    kind: str
    calls: int
    rows: int
    raised: int
    """Ticks that it raised on."""
    seconds: float
    """Time spent in its code (of ``async`` rules: without the waiting)."""
    breaker: Breaker
    """Of the whole rule; breakers of single instruments are listed apart."""
    rejects: int = 0
    """Ticks that it decided on: refused, or judged by policy because it was unavailable.

    In shadow: those it would have refused.
    """
    mode: Mode = "live"


class BreakerState(msgspec.Struct, rename="camel"):
    """A breaker that is not closed."""

    rule: str
    instrument: str | None
    """None: the whole rule."""
    state: Breaker
    since_ns: int
    """Since when, ns since the Unix epoch."""
    why: str


class RuleCounters(msgspec.Struct, rename="camel"):
    """Counts since the start."""

    batches: int = 0
    rows: int = 0
    unavailable: int = 0
    """Ticks judged by policy because a rule could not be asked."""
    hangs: int = 0
    """Workers killed because a rule did not come back before its deadline."""
    timeouts: int = 0
    """Awaits cut off at the deadline."""
    deaths: int = 0
    """Workers that ended by themselves."""
    retries: int = 0
    """Parts of batches handed to a second worker."""
    isolations: int = 0
    """Parts of batches judged one instrument at a time."""
    probes: int = 0
    start_failures: int = 0
    """Workers that did not come up."""


class RulesState(msgspec.Struct, rename="camel"):
    """Everything about the rules at one moment."""

    rule_set: str
    """``name@version``; empty: no rules."""
    policy: str
    workers: list[WorkerState]
    rules: list[RuleState]
    breakers: list[BreakerState]
    counters: RuleCounters
