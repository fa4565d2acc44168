"""Rules in the processor itself: no isolation, no processes. For tests, replays and rules one trusts.

A rule that hangs hangs the processor, one that ends the process ends it. Everything else is as with workers, awaits
that are cut off and their breakers included.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tickcast.rules.base import Books, Policy
from tickcast.rules.judge import Judge
from tickcast.rules.notes import Notes
from tickcast.rules.prober import Prober
from tickcast.rules.run import Run, Work
from tickcast.rules.state import RuleCounters, RulesState
from tickcast.rules.verdicts import Verdicts

if TYPE_CHECKING:
    from tickcast.rules.breaker import Breaker
    from tickcast.rules.declaration import Declaration
    from tickcast.rules.ruleset import RuleSet
    from tickcast.ticks import Ticks

__all__ = ["InlineRunner", "NoRules"]


class InlineRunner:
    """Judges batches in line; a set without ``async`` rules right in `submit`."""

    def __init__(self, rule_set: RuleSet, *, deadline_s: float, policy: Policy, concurrency: int) -> None:
        self._judge = Judge(
            rule_set, deadline_s=deadline_s, fail_open=policy == "fail-open", concurrency=concurrency,
            notes=Notes(None, len(rule_set.rules)),
        )  # fmt: skip
        self._books = Books(self._judge.declaration, policy)
        self._prober = Prober(self._books, self._probe)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def declaration(self) -> Declaration:
        """What the rules declare."""
        return self._books.declaration

    async def start(self) -> None:
        """Make ready: there is nothing to do."""

    def submit(self, ticks: Ticks) -> asyncio.Future[Verdicts]:
        """Judge ticks that passed the screen; see `Runner.submit`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Verdicts] = loop.create_future()
        work = Work(self._books.enter(ticks), blocked=self._books.breakers.blocked)
        if self._judge.asynchronous:
            task = loop.create_task(self._run(work, future))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._finish(self._judge.judge_now(work), future)
        return future

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._prober.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> RulesState:
        """Return what there is to see."""
        return self._books.state([], [self._judge.notes.words])

    async def _run(self, work: Work, future: asyncio.Future[Verdicts]) -> None:
        try:
            self._finish(await self._judge.judge(work), future)
        except BaseException as error:
            if not future.done():
                if isinstance(error, Exception):
                    future.set_exception(error)
                else:
                    future.cancel()
            raise

    def _finish(self, run: Run, future: asyncio.Future[Verdicts]) -> None:
        verdicts = run.finish()
        self._books.leave(verdicts)
        for rule, code in run.late:
            self._books.counters.timeouts += 1
            self._books.trip(rule, code, "an await was cut off at the deadline", run.work.ticks)
            self._prober.wake()
        if not future.done():
            future.set_result(verdicts)

    async def _probe(self, breaker: Breaker) -> str | None:
        assert breaker.sample is not None  # or it would not be due
        run = await self._judge.judge(Work(breaker.sample, only=breaker.rule))
        return "probe: an await was cut off at the deadline" if run.late else None


class NoRules:
    """No rules: what passed the screen is VALID."""

    declaration: Declaration | None = None

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._counters = RuleCounters()

    async def start(self) -> None:
        """Make ready: there is nothing to do."""

    def submit(self, ticks: Ticks) -> asyncio.Future[Verdicts]:
        """Call every tick VALID."""
        self._counters.batches += 1
        self._counters.rows += len(ticks)
        future: asyncio.Future[Verdicts] = asyncio.get_running_loop().create_future()
        future.set_result(Verdicts.blank(len(ticks), None))
        return future

    async def close(self) -> None:
        """Nothing to do."""

    def state(self) -> RulesState:
        """Return what there is to see."""
        return RulesState("", self._policy, [], [], [], self._counters)
