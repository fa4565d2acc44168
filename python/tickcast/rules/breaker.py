"""Circuit breakers: which rules are not called for which instruments, and when to try them again.

A breaker is *open* from the first hang or death that was pinned down to a rule and an instrument: the rule is not
called for that instrument, its ticks are judged by policy. When its back-off is over it is *half-open*: a probe runs
the rule on the instrument's newest ticks, on a process of its own, beside the path. A probe that comes back closes it,
one that does not opens it again for twice as long. When a rule failed on many instruments within a short time, the
trouble is the rule's own, and one breaker opens for all of it.

A breaker that opens again soon after it closed goes on with its back-off where it was: a rule that fails now and then
costs others a stall ever more rarely.

Pure logic on a clock that the caller reads; no I/O, no threads.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tickcast.rules.state import BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcast.ticks import Ticks

__all__ = ["Breaker", "Breakers"]

FIRST_BACKOFF_S: Final = 1.0
LAST_BACKOFF_S: Final = 60.0
WHOLE_RULE_INSTRUMENTS: Final = 5
WHOLE_RULE_WITHIN_S: Final = 10.0
_MEMORY_S: Final = 2 * LAST_BACKOFF_S
"""How long a closed breaker remembers its back-off."""


@dataclass(slots=True, eq=False)
class Breaker:
    """The breaker of one rule, for one instrument or for all."""

    rule: int
    """From 1."""
    code: int | None
    """Instrument code; None: the whole rule."""
    why: str
    state: Literal["closed", "open", "half-open"] = "open"
    since_ns: int = 0
    """Since when it is in this state, ns since the Unix epoch."""
    backoff_s: float = FIRST_BACKOFF_S
    due_s: float = 0.0
    """When to probe (open), or until when to remember the back-off (closed)."""
    sample: Ticks | None = None
    """What a probe is run on."""


class Breakers:
    """All breakers of a runner.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: dict[tuple[int, int | None], Breaker] = {}
        self._failures: dict[int, deque[tuple[float, int]]] = {}
        self._blocked: dict[int, frozenset[int] | None] = {}

    @property
    def blocked(self) -> dict[int, frozenset[int] | None]:
        """Rules not to be called, for these instrument codes or (None) for all. Replaced, never changed."""
        return self._blocked

    def not_closed(self) -> list[Breaker]:
        """Return the breakers that are open or half-open."""
        return [breaker for breaker in self._breakers.values() if breaker.state != "closed"]

    def find(self, rule: int, code: int | None) -> Breaker | None:
        """Return the breaker of a rule and an instrument, where there is one."""
        return self._breakers.get((rule, code))

    def trip(self, rule: int, code: int | None, why: str) -> Breaker:
        """Open the breaker of a rule and an instrument; perhaps that of the whole rule too. Returns the former."""
        now_s = self._clock()
        breaker = self._open(rule, code, why, now_s)
        if code is not None:
            recent = self._failures.setdefault(rule, deque())
            recent.append((now_s, code))
            while recent[0][0] < now_s - WHOLE_RULE_WITHIN_S:
                recent.popleft()
            instruments = len({failed for _, failed in recent})
            if instruments >= WHOLE_RULE_INSTRUMENTS and self._blocked.get(rule, ()) is not None:
                text = f"failed on {instruments} instruments within {WHOLE_RULE_WITHIN_S:g} s; the last: {why}"
                self._open(rule, None, text, now_s)
        self._refresh()
        return breaker

    def next_due_s(self) -> float | None:
        """Return when the next probe is due, on the clock; None: no breaker is open."""
        return min((breaker.due_s for breaker in self._breakers.values() if breaker.state == "open"), default=None)

    def begin_probe(self) -> Breaker | None:
        """Make the breaker that is due half-open and return it; None: none is due, or has ticks to try."""
        now_s = self._clock()
        self._forget(now_s)
        due = [b for b in self._breakers.values() if b.state == "open" and b.due_s <= now_s and b.sample is not None]
        if not due:
            return None
        breaker = min(due, key=lambda candidate: candidate.due_s)
        _set(breaker, "half-open")
        return breaker

    def end_probe(self, breaker: Breaker, why: str | None) -> None:
        """Close a half-open breaker (``why`` None), or open it again for twice as long."""
        now_s = self._clock()
        if why is None:
            _set(breaker, "closed")
            breaker.due_s = now_s + _MEMORY_S
            breaker.sample = None
        else:
            self._open(breaker.rule, breaker.code, why, now_s)
        self._refresh()

    def states(self, rules: list[str], instrument: Callable[[int], str]) -> list[BreakerState]:
        """Return the breakers that are not closed, for people."""
        return [
            BreakerState(
                rule=rules[breaker.rule - 1],
                instrument=None if breaker.code is None else instrument(breaker.code),
                state=breaker.state,
                since_ns=breaker.since_ns,
                why=breaker.why,
            )
            for breaker in self.not_closed()
        ]

    def _open(self, rule: int, code: int | None, why: str, now_s: float) -> Breaker:
        breaker = self._breakers.get((rule, code))
        if breaker is None:
            breaker = self._breakers[rule, code] = Breaker(rule, code, why, since_ns=time.time_ns())
        elif breaker.state == "open":
            return breaker  # a batch that was under way when it opened
        else:
            breaker.backoff_s = min(2 * breaker.backoff_s, LAST_BACKOFF_S)
            breaker.why = why
            _set(breaker, "open")
        breaker.due_s = now_s + breaker.backoff_s
        return breaker

    def _forget(self, now_s: float) -> None:
        stale = [key for key, breaker in self._breakers.items() if breaker.state == "closed" and breaker.due_s < now_s]
        for key in stale:
            del self._breakers[key]

    def _refresh(self) -> None:
        codes: dict[int, set[int]] = {}
        whole: set[int] = set()
        for breaker in self.not_closed():
            if breaker.code is None:
                whole.add(breaker.rule)
            else:
                codes.setdefault(breaker.rule, set()).add(breaker.code)
        self._blocked = {rule: frozenset(some) for rule, some in codes.items()} | dict.fromkeys(whole)


def _set(breaker: Breaker, state: Literal["closed", "open", "half-open"]) -> None:
    # A probe that fails doesn't make the trouble younger: since_ns is that of the first opening.
    if "closed" in (state, breaker.state):
        breaker.since_ns = time.time_ns()
    breaker.state = state
