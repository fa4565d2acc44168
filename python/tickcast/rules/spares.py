"""Keeps warm spares: worker processes with the rules imported, waiting to take over.

A spare that is taken is replaced at once, in the background. Processes that don't come up, or end by themselves soon
after, are replaced ever more slowly, so that a broken rule module doesn't become a storm of restarts.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from tickcast.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcast.rules.declaration import Declaration
    from tickcast.rules.process import WorkerProcess

__all__ = ["Spares"]

_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 10.0
_FREE_DEATHS: Final = 2
_EARLY_S: Final = 5.0
_FORGET_S: Final = 10.0


class Spares:
    """The workers that wait, and those being started.

    Args:
        spawn: Starts a process.
        expected: What its rules must declare; None: what the first one declares.
        wanted: How many processes to have in all, at work or waiting.
        on_ready: Called with each process that came up.
        on_failure: Called with the reason when one did not.
    """

    def __init__(
        self,
        spawn: Callable[[], WorkerProcess],
        expected: Declaration | None,
        wanted: int,
        on_ready: Callable[[WorkerProcess], None],
        on_failure: Callable[[RuleError], None],
    ) -> None:
        self._spawn = spawn
        self.declaration = expected
        self._wanted = wanted
        self._on_ready = on_ready
        self._on_failure = on_failure
        self.waiting: list[WorkerProcess] = []
        self.starting: set[WorkerProcess] = set()
        self.failures = 0
        """Processes in a row that did not come up."""
        self._early_deaths = 0
        self._last_trouble_s = -_FORGET_S
        self._ready_s: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def fill(self, at_work: int) -> None:
        """Start what is missing, ``at_work`` processes being elsewhere; or later, where a back-off is on."""
        self._at_work = at_work
        if self._closed or self._timer is not None:
            return
        missing = self._wanted - at_work - len(self.waiting) - len(self.starting)
        if missing <= 0:
            return
        delay_s = self._last_trouble_s + self._backoff_s() - time.monotonic()
        if delay_s > 0:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fill_now)
            return
        for _ in range(missing):
            self._start()

    def want(self, wanted: int, at_work: int) -> None:
        """Have this many processes in all from now on."""
        self._wanted = wanted
        self.fill(at_work)

    @property
    def pause_s(self) -> float:
        """Seconds until the next start is tried; 0: no back-off is on."""
        return max(self._timer.when() - asyncio.get_running_loop().time(), 0.0) if self._timer is not None else 0.0

    def take(self) -> WorkerProcess | None:
        """Return a warm process, if there is one."""
        return self.waiting.pop() if self.waiting else None

    def gone(self, worker: WorkerProcess, killed: bool) -> None:
        """Take notice of a process that ended; ``killed``: on purpose."""
        if worker in self.waiting:
            self.waiting.remove(worker)
        ready_s = self._ready_s.pop(worker.pid, None)
        now_s = time.monotonic()
        if ready_s is not None and not killed and now_s - ready_s < _EARLY_S:
            if now_s - self._last_trouble_s > _FORGET_S:
                self._early_deaths = 0
            self._early_deaths += 1
            self._last_trouble_s = now_s

    async def close(self) -> list[WorkerProcess]:
        """Start nothing more; return the processes that are left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        left = [*self.waiting, *self.starting]
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return left

    def _fill_now(self) -> None:
        self._timer = None
        self.fill(self._at_work)

    def _backoff_s(self) -> float:
        count = max(self.failures, self._early_deaths - _FREE_DEATHS)
        return min(_FIRST_BACKOFF_S * 2 ** (count - 1), _LAST_BACKOFF_S) if count > 0 else 0.0

    def _start(self) -> None:
        try:
            worker = self._spawn()
        except OSError as error:
            self._failed(RuleError(f"can't start a rule worker: {error}"))
            return
        self.starting.add(worker)
        task = asyncio.get_running_loop().create_task(self._bring_up(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_up(self, worker: WorkerProcess) -> None:
        try:
            found = await worker.ready()
            self.declaration = self.declaration or found
            if found != self.declaration:
                raise RuleError(
                    f"the rules changed on disk from {self.declaration.label} to {found.label}: restart to use them"
                )
        except (RuleError, OSError) as error:
            worker.kill()
            self.starting.discard(worker)
            self._failed(error if isinstance(error, RuleError) else RuleError(f"can't start a rule worker: {error}"))
            return
        self.failures = 0
        self.starting.discard(worker)
        self.waiting.append(worker)
        self._ready_s[worker.pid] = time.monotonic()
        self._on_ready(worker)

    def _failed(self, error: RuleError) -> None:
        self.failures += 1
        self._last_trouble_s = time.monotonic()
        self._on_failure(error)
        self.fill(self._at_work)
