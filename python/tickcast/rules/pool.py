"""Rules in worker processes: hands out parts of batches, puts the verdicts together, in spite of hangs and deaths.

A *lane* is one share of the instruments with the worker that judges it; an instrument keeps its lane for ever, so rules
with state see all of its ticks. A batch is cut into *parts*: one per lane, and where that is long, several.

When a worker hangs or dies, its lane goes on with the warm spare (`recovery.py` decides with what).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tickcast.rules.base import Books, Policy
from tickcast.rules.messages import Init, Order, Verdict
from tickcast.rules.notes import SINCE
from tickcast.rules.parts import Batch, Part
from tickcast.rules.prober import ProbeProcess, Prober
from tickcast.rules.process import WorkerProcess
from tickcast.rules.recovery import Finding, after_death, find_stall
from tickcast.rules.slots import SLOT_ROWS
from tickcast.rules.spares import Spares
from tickcast.rules.state import RulesState, WorkerState
from tickcast.rules.verdicts import INVALID, UNKNOWN, Verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcast.errors import RuleError
    from tickcast.rules.declaration import Declaration
    from tickcast.ticks import Ticks

__all__ = ["PoolRunner"]

_WATCHES_PER_DEADLINE: Final = 10
_DOWN_PAUSE_S: Final = 0.5
_DOWN_FAILURES: Final = 3
"""Starts in a row that fail before ticks without a worker are judged by policy."""


class _Lane:
    """One share of the instruments, and the worker that judges it."""

    __slots__ = ("finding", "flight", "heard_ns", "long_call", "queue", "respawns", "worker")

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        self.queue: deque[Part] = deque()
        self.flight: dict[int, tuple[Part, int]] = {}
        """By number of the part: the part, and its slot."""
        self.finding: Finding | None = None
        """Why the worker was killed; None: it was not."""
        self.heard_ns = 0
        self.long_call = (0, 0)
        """Of a call seen twice: since when, and how long the worker had then waited for a processor, ns."""
        self.respawns = 0

    @property
    def isolating(self) -> bool:
        """Whether a part is under way alone."""
        return any(part.isolate for part, _ in self.flight.values())


class PoolRunner:
    """Judges batches in worker processes; see `Runner`.

    Args:
        spec: Names the rule set for the workers to import.
        expected: What it must declare; None: whatever it does.
        workers: Number of lanes.
        spares: Warm spares beside them.
        deadline_s: Seconds for one call of a rule.
        policy: Verdict where a rule is not available.
        concurrency: Ticks of one batch that an ``async`` rule is asked about at once.
    """

    def __init__(
        self,
        spec: str,
        expected: Declaration | None,
        *,
        workers: int,
        spares: int,
        deadline_s: float,
        policy: Policy,
        concurrency: int,
    ) -> None:
        self._spare_count = spares
        self._deadline_ns = int(deadline_s * 1e9)
        self._period_s = deadline_s / _WATCHES_PER_DEADLINE
        self._policy = policy
        self._init = Init(spec, list(sys.path), deadline_s, policy == "fail-open", concurrency, 0)
        self._lanes = [_Lane() for _ in range(workers)]
        self._lane_of: dict[int, _Lane] = {}
        self._spares = Spares(self._spawn, expected, workers, self._came_up, self._did_not_come_up)
        self._started: asyncio.Future[None] | None = None
        self._books: Books | None = None
        self._prober: Prober | None = None
        self._probe: ProbeProcess | None = None
        self._batches: set[Batch] = set()
        self._parts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._watched_ns = 0
        self._down: str | None = None
        self._closed = False

    @property
    def declaration(self) -> Declaration | None:
        """What the rules declare; None before `start`, where it was not known."""
        return self._spares.declaration

    async def start(self) -> None:
        """Start the workers and wait until each lane has one; the spare may still be warming up.

        Raises:
            RuleError: The rules can't be imported.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._spares.fill(0)
        try:
            await self._started
        except BaseException:
            await self.close()
            raise

    def submit(self, ticks: Ticks) -> asyncio.Future[Verdicts]:
        """Judge ticks that passed the screen; see `Runner.submit`.

        Raises:
            RuntimeError: The runner was not started, or is closed.
        """
        if self._books is None or self._closed:
            raise RuntimeError("the rules' runner is not running")
        ticks = self._books.enter(ticks)
        future: asyncio.Future[Verdicts] = asyncio.get_running_loop().create_future()
        batch = Batch(ticks, self._books.declaration, future)
        if not len(ticks):
            future.set_result(Verdicts.blank(0, self._books.declaration))
            return future
        self._batches.add(batch)
        for number, lane in enumerate(self._lanes):
            if len(self._lanes) == 1:
                shares: Sequence[slice] | Sequence[np.ndarray] = [
                    slice(start, min(start + SLOT_ROWS, len(ticks))) for start in range(0, len(ticks), SLOT_ROWS)
                ]
            else:
                rows = np.flatnonzero(ticks.instrument % len(self._lanes) == number)
                shares = [rows[start : start + SLOT_ROWS] for start in range(0, len(rows), SLOT_ROWS)]
            for share in shares:
                self._parts += 1
                lane.queue.append(batch.part(self._parts, share))
        for lane in self._lanes:
            if lane.queue:
                self._dispatch(lane)
        return future

    async def close(self) -> None:
        """End all processes; batches under way are cancelled."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        left = await self._spares.close()
        left += [lane.worker for lane in self._lanes if lane.worker is not None]
        for worker in left:
            worker.retired = True
        if self._prober is not None and self._probe is not None:
            await self._prober.close()
            await self._probe.close()
        for batch in self._batches:
            batch.future.cancel()
        await asyncio.gather(*(worker.stop() for worker in left))

    def state(self) -> RulesState:
        """Return what there is to see.

        Raises:
            RuntimeError: The runner was not started.
        """
        if self._books is None:
            raise RuntimeError("the rules' runner is not running")
        workers = []
        for lane in self._lanes:
            doing: Literal["starting", "idle", "busy", "isolating"]
            doing = "isolating" if lane.isolating else "busy" if lane.flight else "idle"
            if lane.worker is None:
                doing = "starting"
            workers.append(WorkerState(lane.worker.pid if lane.worker else 0, "worker", doing, lane.respawns))
        workers += [WorkerState(worker.pid, "spare", "idle", 0) for worker in self._spares.waiting]
        workers += [WorkerState(worker.pid, "spare", "starting", 0) for worker in self._spares.starting]
        if self._probe is not None and self._probe.worker is not None:
            workers.append(WorkerState(self._probe.worker.pid, "probe", self._probe.doing, self._probe.respawns))
        live = [lane.worker.slots.words for lane in self._lanes if lane.worker is not None and lane.worker.slots]
        state = self._books.state(workers, live)
        if self._down is not None:
            state.breakers.append(self._books.down(self._down))
        return state

    # Workers come and go.

    def _spawn(self) -> WorkerProcess:
        return WorkerProcess(self._init, self._take, self._ended)

    def _came_up(self, worker: WorkerProcess) -> None:
        if self._books is None:
            declaration = self._spares.declaration
            assert declaration is not None  # it just came from the worker
            self._books = Books(declaration, self._policy)
            self._probe = ProbeProcess(self._init, self._books, self._init.deadline_s)
            self._prober = Prober(self._books, self._probe.probe, self._probe.start, self._probe.relax)
        self._down = None
        self._staff()

    def _did_not_come_up(self, error: RuleError) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
            return
        if self._books is not None:
            self._books.counters.start_failures += 1
            if self._spares.failures >= _DOWN_FAILURES:
                self._down = str(error)
                self._staff()

    def _staff(self) -> None:
        """Give lanes without a worker a spare, and have missing processes started."""
        for lane in self._lanes:
            if lane.worker is None and (worker := self._spares.take()) is not None:
                lane.worker = worker
                lane.finding = None
                self._lane_of[worker.pid] = lane
            self._dispatch(lane)
        at_work = self._at_work()
        self._spares.fill(at_work)
        if at_work < len(self._lanes) and self._spares.pause_s > _DOWN_PAUSE_S and self._down is None:
            self._down = "rule workers keep ending soon after their start"
            self._staff()
        if at_work == len(self._lanes) and self._started is not None and not self._started.done():
            self._started.set_result(None)
            self._spares.want(len(self._lanes) + self._spare_count, at_work)  # not before: they would slow the start

    def _at_work(self) -> int:
        return sum(lane.worker is not None for lane in self._lanes)

    def _ended(self, worker: WorkerProcess) -> None:
        lane = self._lane_of.pop(worker.pid, None)
        self._spares.gone(worker, killed=lane is not None and lane.finding is not None)
        if lane is not None and not worker.retired:
            self._recover(lane, worker)
        worker.close()
        if not worker.retired and not self._closed:
            self._staff()

    def _recover(self, lane: _Lane, worker: WorkerProcess) -> None:
        """Put back what the worker had, find out what is to blame, and open breakers."""
        books, slots = self._books, worker.slots
        assert books is not None  # a lane has a worker only after that
        assert slots is not None
        books.retire(slots.words)
        flight = sorted(lane.flight.values(), key=lambda entry: entry[0].number)
        lane.flight = {}
        lane.worker = None
        lane.respawns += 1
        finding = lane.finding
        books.counters.deaths += finding is None
        if finding is None or not finding.rule:
            finding = after_death(slots.words, [part for part, slot in flight if slots.begun(slot)])
        parts = {part.number: part for part, _ in flight}
        books.counters.retries += len(parts)
        blamed = parts.get(finding.part)
        if blamed is not None and finding.rule:
            if finding.code is not None:
                books.trip(finding.rule, finding.code, finding.why, blamed.ticks)
                assert self._prober is not None
                self._prober.wake()
            elif finding.rule not in blamed.isolate:
                books.counters.isolations += not blamed.isolate
                blamed.isolate.add(finding.rule)
        for part in finding.hopeless:
            self._down = "rule workers keep ending outside of any rule"
            if parts.pop(part.number, None) is not None:
                self._by_policy(part)
        lane.queue.extendleft(reversed(parts.values()))

    # Parts go out and come back.

    def _dispatch(self, lane: _Lane) -> None:
        worker, books = lane.worker, self._books
        if books is None or worker is None or worker.slots is None or lane.finding is not None:
            if worker is None and self._down is not None:
                while lane.queue:
                    self._by_policy(lane.queue.popleft())
            return
        slots, known = worker.slots, books.names.known
        while lane.queue and slots.free and not lane.isolating:
            part = lane.queue[0]
            if part.isolate and lane.flight:
                break  # what is isolated goes alone: whatever happens then is its doing
            lane.queue.popleft()
            slot = slots.free.pop()
            slots.put(slot, part.batch.ticks, part.rows)
            lane.flight[part.number] = part, slot
            lane.heard_ns = time.monotonic_ns()
            names = known[worker.names_sent :]
            worker.names_sent += len(names)
            blocked = books.breakers.blocked
            worker.tell(Order(part.number, slot, part.size, names, blocked, part.isolate, 0))  # type: ignore[arg-type]
        if lane.flight and self._timer is None:
            self._watched_ns = time.monotonic_ns()
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._watch)

    def _take(self, worker: WorkerProcess, verdict: Verdict) -> None:
        lane = self._lane_of.get(worker.pid)
        entry = lane.flight.pop(verdict.task, None) if lane is not None else None
        if lane is None or entry is None or worker.slots is None:
            return
        part, slot = entry
        lane.heard_ns = time.monotonic_ns()
        for rule, code in verdict.late:
            assert self._books is not None
            assert self._prober is not None
            self._books.counters.timeouts += 1
            self._books.trip(rule, code, "an await was cut off at the deadline", part.ticks)
            self._prober.wake()
        answer = worker.slots.take_answer(slot, part.size)
        self._finish(part, answer, verdict.texts)
        worker.slots.free.append(slot)
        self._dispatch(lane)

    def _finish(self, part: Part, answer: Verdicts, texts: list[str]) -> None:
        batch = part.batch
        verdicts = batch.take(part, answer, texts)
        if verdicts is not None:
            assert self._books is not None
            self._batches.discard(batch)
            self._books.leave(verdicts)
            if not batch.future.done():
                batch.future.set_result(verdicts)

    def _by_policy(self, part: Part) -> None:
        """Judge a part without any worker: the first rule that decides is the first that can't be asked."""
        assert self._books is not None
        declaration = self._books.declaration
        answer = Verdicts.blank(part.size, declaration)
        first = next((number for number, rule in enumerate(declaration.rules, 1) if not rule.shadow), None)
        if first is not None:
            answer.status[:] = UNKNOWN if self._policy == "fail-open" else INVALID
            answer.rule[:] = first
            answer.reason[:] = len(declaration.rules) + first
        self._finish(part, answer, [])

    # Hangs.

    def _watch(self) -> None:
        now_ns = time.monotonic_ns()
        # Late itself? Then this process stood still, perhaps all of them did: that is no rule's doing.
        awake = now_ns - self._watched_ns < 1.5e9 * self._period_s + self._deadline_ns // 2
        self._watched_ns = now_ns
        for lane in self._lanes:
            worker = lane.worker
            if awake and worker is not None and worker.slots is not None and lane.flight and lane.finding is None:
                grace_ns = self._grace_ns(lane, worker, now_ns)
                lane.finding = find_stall(worker.slots.words, now_ns - grace_ns, lane.heard_ns, self._deadline_ns)
                if lane.finding is not None:
                    assert self._books is not None
                    self._books.counters.hangs += 1
                    worker.kill()
        self._timer = None
        if any(lane.flight for lane in self._lanes) and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._watch)

    def _grace_ns(self, lane: _Lane, worker: WorkerProcess, now_ns: int) -> int:
        """Return how long the call under way waited for a processor: up to a deadline, that is not the rule's doing."""
        assert worker.slots is not None
        since_ns = worker.slots.words[SINCE]
        if now_ns - since_ns < self._period_s * 1e9:
            return 0
        queued_ns = worker.queued_ns()
        if lane.long_call[0] != since_ns:
            lane.long_call = since_ns, queued_ns
        return min(queued_ns - lane.long_call[1], self._deadline_ns)
