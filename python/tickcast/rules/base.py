"""What the runners have in common: instrument codes, breakers, counts, and what the world sees of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from tickcast.rules.breaker import Breaker, Breakers
from tickcast.rules.names import Names
from tickcast.rules.notes import STAT_WORDS, STATS
from tickcast.rules.state import BreakerState, Mode, RuleCounters, RulesState, RuleState, WorkerState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from tickcast.rules.declaration import Declaration
    from tickcast.rules.verdicts import Verdicts
    from tickcast.ticks import Ticks

__all__ = ["Books", "Policy", "Runner"]

Policy = Literal["fail-closed", "fail-open"]

_SAMPLE_ROWS: Final = 64
_SAMPLE_BEFORE_S: Final = 1.0


class Runner(Protocol):
    """Judges batches of ticks by a rule set."""

    async def start(self) -> None:
        """Make ready.

        Raises:
            RuleError: The rules can't be imported, or not as declared.
        """

    @property
    def declaration(self) -> Declaration | None:
        """What the rules declare; known after `start`. None: there are no rules."""

    def submit(self, ticks: Ticks) -> asyncio.Future[Verdicts]:
        """Judge ticks that passed the screen. Called in tape order; any number may be under way."""

    async def close(self) -> None:
        """End all processes; what is under way is cancelled."""

    def state(self) -> RulesState:
        """Return what there is to see."""


class Books:
    """Keeps a runner's books: who is who, what is open, what happened."""

    def __init__(self, declaration: Declaration, policy: Policy) -> None:
        self.declaration: Final = declaration
        self.policy: Final = policy
        self.names: Final = Names()
        self.breakers: Final = Breakers()
        self.counters: Final = RuleCounters()
        self._rejects = np.zeros(len(declaration.rules) + 1, np.int64)
        self._past = [0] * (STAT_WORDS * len(declaration.rules))

    def enter(self, ticks: Ticks) -> Ticks:
        """Count a batch in; return it in the runner's codes. Keeps samples for the breakers that need one."""
        ticks = self.names.recode(ticks)
        self.counters.batches += 1
        self.counters.rows += len(ticks)
        if self.breakers.blocked and len(ticks):
            self._sample(ticks)
        return ticks

    def leave(self, verdicts: Verdicts) -> None:
        """Count a batch out."""
        rules = len(self.declaration.rules)
        rule = verdicts.rule.tobytes()
        if rule.count(0) == len(rule):  # nothing was refused
            return
        self._rejects += np.bincount(verdicts.rule, minlength=rules + 1)
        if verdicts.reason.max() > rules:
            reason = verdicts.reason
            self.counters.unavailable += int(np.count_nonzero((reason > rules) & (reason <= 2 * rules)))

    def trip(self, rule: int, code: int | None, why: str, ticks: Ticks) -> None:
        """Open a breaker; ``ticks`` is the batch it happened on."""
        self.breakers.trip(rule, code, why)
        for breaker in self.breakers.not_closed():
            if breaker.rule == rule and breaker.sample is None:
                self._sample_for(breaker, ticks)

    def retire(self, words: Sequence[int]) -> None:
        """Add the counts of a worker that is gone."""
        for place in range(len(self._past)):
            self._past[place] += words[STATS + place]

    def state(self, workers: list[WorkerState], live: Sequence[Sequence[int]]) -> RulesState:
        """Return what there is to see; ``live`` are the notes of the workers that run."""
        totals = [past + sum(words[STATS + place] for words in live) for place, past in enumerate(self._past)]
        rules = []
        for number, info in enumerate(self.declaration.rules, start=1):
            calls, rows, raised, spent_ns, refused = totals[STAT_WORDS * (number - 1) : STAT_WORDS * number]
            rejects = refused if info.shadow else int(self._rejects[number])
            whole = self.breakers.find(number, None)
            breaker = whole.state if whole else "closed"
            mode: Mode = "shadow" if info.shadow else "live"
            rules.append(RuleState(info.name, info.kind, calls, rows, raised, spent_ns / 1e9, breaker, rejects, mode))
        names = [info.name for info in self.declaration.rules]
        return RulesState(
            rule_set=self.declaration.label,
            policy=self.policy,
            workers=workers,
            rules=rules,
            breakers=self.breakers.states(names, self.names.known.__getitem__),
            counters=self.counters,
        )

    def down(self, why: str) -> BreakerState:
        """Return what stands for a rule set that no worker can import any more: nothing can be asked of any rule."""
        return BreakerState(self.declaration.rules[0].name, None, "open", time.time_ns(), why)

    def _sample(self, ticks: Ticks) -> None:
        soon_s = time.monotonic() + _SAMPLE_BEFORE_S
        for breaker in self.breakers.not_closed():
            if breaker.state == "open" and breaker.due_s <= soon_s:
                self._sample_for(breaker, ticks)

    def _sample_for(self, breaker: Breaker, ticks: Ticks) -> None:
        """Keep the newest ticks that a breaker is about, to be tried in a probe."""
        if breaker.code is not None:
            wanted = ticks.instrument == breaker.code
        else:
            # The whole rule is probed on the instruments that have no breaker of their own: those keep theirs.
            own = [b.code for b in self.breakers.not_closed() if b.rule == breaker.rule and b.code is not None]
            wanted = ~np.isin(ticks.instrument, own)
        rows = np.flatnonzero(wanted)[-_SAMPLE_ROWS:]
        if len(rows):
            breaker.sample = ticks.take(rows)
