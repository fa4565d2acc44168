"""Asks an ``async`` rule about the ticks of a batch, many at once, and cuts off those that take too long.

What a tick costs here is what decides how many ticks per second a rule that merely waits can judge. So there is no task
for each tick but a *lane*, a task that takes one tick after the other, and no timer for each tick but one *sweeper*.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from tickcast.rules.notes import Notes
    from tickcast.rules.ruleset import Rule
    from tickcast.rules.run import Run, Share
    from tickcast.ticks import Tick

__all__ = ["Each", "Sweeper"]

_SWEEPS_PER_DEADLINE: Final = 8


class Sweeper:
    """Looks, a few times per deadline, for ticks that were awaited too long.

    Its clock stands still while the event loop is busy: where many ticks compete for one core, a tick must not be
    called hung because others were served. (A rule that itself blocks the loop is seen by the parent process.)
    """

    def __init__(self, deadline_s: float) -> None:
        self.clock_s = 0.0
        self.stages: set[Each] = set()
        self._deadline_s = deadline_s
        self._period_s = deadline_s / _SWEEPS_PER_DEADLINE
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = 0.0

    def add(self, stage: Each) -> None:
        """Watch a stage until `remove`."""
        self.stages.add(stage)
        if self._timer is None:
            self._last_s = time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep)

    def remove(self, stage: Each) -> None:
        """Stop watching a stage."""
        self.stages.discard(stage)

    def _sweep(self) -> None:
        now_s = time.monotonic()
        self.clock_s += min(now_s - self._last_s, 1.5 * self._period_s)
        self._last_s = now_s
        # Beginnings are read off this clock too, and it only moves here: a period more, lest a tick be cut off early.
        before_s = self.clock_s - self._deadline_s - self._period_s
        for stage in tuple(self.stages):
            stage.cut_off(before_s)
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep) if self.stages else None


class _Lane:
    """A task that asks about one tick after the other."""

    __slots__ = ("place", "since_s", "task")

    def __init__(self) -> None:
        self.place = -1
        self.since_s = 0.0
        self.task: asyncio.Task[None] | None = None


class Each:
    """One ``async`` rule over the ticks of one batch that still stand."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_codes",
        "_done",
        "_hung",
        "_lanes",
        "_left",
        "_notes",
        "_rows",
        "_rule",
        "_run",
        "_source",
    )  # fmt: skip

    def __init__(self, run: Run, rule: Rule, share: Share, *, notes: Notes, sweeper: Sweeper) -> None:
        self._run = run
        self._rule = rule
        self._rows: list[int] = share.rows.tolist()
        self._codes: list[int] = share.ticks.instrument.tolist()
        self._source: enumerate[Tick] = enumerate(share.ticks.each())
        self._left = len(share.ticks)
        self._notes = notes
        self._clock = sweeper
        self._lanes: dict[_Lane, None] = {}  # those asking, the one that began earliest first
        self._hung: set[int] = set()
        self._done: asyncio.Future[None] | None = None

    async def judge(self, concurrency: int) -> None:
        """Ask about every tick, at most ``concurrency`` at once; what they say goes to the run."""
        self._done = asyncio.get_running_loop().create_future()
        self._clock.add(self)
        try:
            for _ in range(min(concurrency, self._left)):
                self._open_lane()
            await self._done
        finally:
            self._clock.remove(self)
            left, self._source = tuple(self._lanes), enumerate(())
            self._lanes.clear()
            for lane in left:  # there are some only where this task itself was cancelled
                if lane.task is not None:
                    lane.task.cancel()

    def cut_off(self, before_s: float) -> None:
        """Judge by policy the ticks asked about before ``before_s``, and cancel their awaits.

        A lane whose function swallows the cancellation is left to itself: another takes its place. Further ticks of
        the instrument are not asked about in this batch.
        """
        while self._lanes and (lane := next(iter(self._lanes))).since_s < before_s:
            del self._lanes[lane]
            code = self._codes[lane.place]
            if code not in self._hung:
                self._hung.add(code)
                self._run.late.append((self._rule.index, code))
            self._run.unavailable(self._rows[lane.place], self._rule.index)
            if lane.task is not None:
                lane.task.cancel()
            self._open_lane()
            self._count_down()

    def _open_lane(self) -> None:
        lane = _Lane()
        lane.task = asyncio.get_running_loop().create_task(self._ask(lane))

    def _count_down(self) -> None:
        self._left -= 1
        if not self._left and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _ask(self, lane: _Lane) -> None:
        lanes, clock, function, codes = self._lanes, self._clock, self._rule.function, self._codes
        for place, tick in self._source:
            code = codes[place]
            if code in self._hung:
                self._run.unavailable(self._rows[place], self._rule.index)
                self._count_down()
                continue
            lane.place = place
            lane.since_s = clock.clock_s
            lanes[lane] = None
            try:
                answer = await _noted(partial(function, tick), self._notes, self._run.task, self._rule.index, code)
            except GeneratorExit:  # the event loop is gone
                raise
            except BaseException as error:  # user code: SystemExit and a CancelledError of its own among others
                if lane not in lanes:
                    return  # cut off: somebody else has judged the tick
                self._raised(place, error)
            else:
                if lane not in lanes:
                    return
                try:
                    self._run.take_answer(self._rows[place], self._rule, answer)
                except Exception as error:
                    self._raised(place, error)
            del lanes[lane]
            self._count_down()

    def _raised(self, place: int, error: BaseException) -> None:
        self._notes.count_raised(self._rule.index, 1)
        self._run.raised(self._rows[place], self._rule, error)


@coroutine
def _noted(call: Callable[[], Any], notes: Notes, task: int, rule: int, code: int) -> Generator[Any, Any, Any]:
    """Await ``call()``, noting each stretch that it runs between two awaits.

    An ``async`` rule that blocks instead of awaiting stops the whole event loop: the note tells the parent which one.
    """
    steps: Any = None
    resume: Any = None
    value: Any = None
    while True:
        since = notes.enter(task, rule, code)
        try:
            if steps is None:
                awaitable = call()
                steps = awaitable if hasattr(awaitable, "send") else _awaiting(awaitable)
                resume = steps.send
            wait = resume(value)
        except StopIteration as stop:
            return stop.value
        finally:
            notes.leave(rule, since)
        try:
            value = yield wait
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            resume, value = steps.throw, error
        else:
            resume = steps.send


async def _awaiting(awaitable: Awaitable[object]) -> object:
    return await awaitable
