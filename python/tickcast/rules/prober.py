"""Tries open breakers again, beside the path: when a back-off is over, one probe at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from tickcast.errors import RuleError
from tickcast.rules.messages import Init, Order, Verdict
from tickcast.rules.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tickcast.rules.base import Books
    from tickcast.rules.breaker import Breaker

__all__ = ["ProbeProcess", "Prober"]

_PROBE_NICE: Final = 19
_DEADLINES: Final = 2
"""What a probe is given: it runs at the lowest priority."""
_NO_SAMPLE_S: Final = 0.1


class Prober:
    """Runs probes as long as a breaker is not closed.

    Args:
        books: With the breakers.
        probe: Runs a rule on a breaker's sample; returns None, or why it failed.
        prepare: Called when the first breaker opens, ``relax`` when the last one has closed.
    """

    def __init__(
        self,
        books: Books,
        probe: Callable[[Breaker], Coroutine[Any, Any, str | None]],
        prepare: Callable[[], None] = lambda: None,
        relax: Callable[[], None] = lambda: None,
    ) -> None:
        self._books = books
        self._probe = probe
        self._prepare = prepare
        self._relax = relax
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Take notice of a breaker that opened."""
        if self._task is None or self._task.done():
            self._prepare()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop probing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        breakers = self._books.breakers
        while (due_s := breakers.next_due_s()) is not None:
            await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
            breaker = breakers.begin_probe()
            if breaker is None:
                await asyncio.sleep(_NO_SAMPLE_S)
                continue
            self._books.counters.probes += 1
            breakers.end_probe(breaker, await self._probe(breaker))
        self._relax()


class ProbeProcess:
    """The process that probes run on: a spare of its own, started with the first breaker that opens.

    It runs at the lowest priority: a rule that still hangs would otherwise take a core from the path.
    """

    def __init__(self, init: Init, books: Books, deadline_s: float) -> None:
        self._init = Init(init.spec, init.path, init.deadline_s, init.fail_open, init.concurrency, _PROBE_NICE)
        self._books = books
        self._timeout_s = _DEADLINES * deadline_s
        self.worker: WorkerProcess | None = None
        self.respawns = 0
        self._ready: asyncio.Task[object] | None = None
        self._answer: asyncio.Future[str | None] | None = None

    @property
    def doing(self) -> Literal["starting", "idle", "busy"]:
        """What the process does."""
        if self._answer is not None and not self._answer.done():
            return "busy"
        return "idle" if self._ready is not None and self._ready.done() else "starting"

    def start(self) -> None:
        """Start the process, where it doesn't run."""
        if self.worker is None:
            try:
                self.worker = WorkerProcess(self._init, self._on_verdict, self._on_exit)
            except OSError:  # no processes or descriptors left: tried again for the next probe
                return
            self._ready = asyncio.get_running_loop().create_task(self.worker.ready())
            self._ready.add_done_callback(lambda task: task.cancelled() or task.exception())  # looked at

    def relax(self) -> None:
        """End the process: there is nothing to try."""
        if self.worker is not None:
            self.worker.kill()

    async def close(self) -> None:
        """End the process for good."""
        if self.worker is not None:
            self.worker.kill()
            await self.worker.stop()

    async def probe(self, breaker: Breaker) -> str | None:
        """Run a rule on a breaker's sample; return None where it came back, else why not."""
        self.start()
        if self.worker is None or self._ready is None or breaker.sample is None:
            return breaker.why
        worker = self.worker
        try:
            await asyncio.shield(self._ready)
        except RuleError as error:
            worker.kill()
            return f"probe: {error}"
        slots, sample = worker.slots, breaker.sample
        assert slots is not None  # it is ready
        slots.put(0, sample, slice(None))
        names = self._books.names.known[worker.names_sent :]
        worker.names_sent += len(names)
        self._answer = asyncio.get_running_loop().create_future()
        worker.tell(Order(1, 0, len(sample), names, {}, set(), breaker.rule))
        done, _ = await asyncio.wait((self._answer,), timeout=self._timeout_s)
        if done:
            return self._answer.result()
        worker.kill()
        await self._answer
        return f"probe: did not come back within {self._timeout_s * 1e3:.0f} ms"

    def _on_verdict(self, worker: WorkerProcess, verdict: Verdict) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result("probe: an await was cut off at the deadline" if verdict.late else None)

    def _on_exit(self, worker: WorkerProcess) -> None:
        worker.close()
        if self.worker is worker:
            self.worker = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result("probe: the worker died")
        # One that never came up is started again for the next probe: the back-off is that of the breaker.
        if worker.slots is not None and not worker.retired and self._books.breakers.not_closed():
            self.respawns += 1
            self.start()
