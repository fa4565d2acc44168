"""What a worker process has one of: pump, line to the processor, tape for HTTP, metrics, and the tasks behind them.

Everything here is started and ended by the lifespan; nothing outlives `close`.
"""

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

from tickcast._core import Pump, TapeReader
from tickcast.config import Config
from tickcast.errors import TapeError
from tickcast.gateway.codes import GOING_AWAY, CloseCode
from tickcast.gateway.control import Control
from tickcast.gateway.metrics import Metrics
from tickcast.gateway.server import keep_to_one_core
from tickcast.gateway.session import Left, Session
from tickcast.rundir import RunDir

if TYPE_CHECKING:
    import socket

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

METRICS_S = 1.0
RETRY_AFTER_MS = 250
SWITCH_INTERVAL_S = 0.0005
"""How long the pump waits for the interpreter at most while asyncio works; the default would be a whole cycle."""


class _Keeper(Protocol):
    async def start(self) -> None: ...
    async def close(self) -> None: ...


class Worker:
    """One worker process. Belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.run = RunDir.create(config.run_dir)
        self.draining = False
        self.event_streams = 0
        self._sessions: dict[int, Session] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._tape: TapeReader | None = None
        self._keeper: _Keeper | None = None
        self._core: socket.socket | None = None

    async def start(self) -> None:
        """Bring everything up; needs a running event loop."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        loop = asyncio.get_running_loop()
        web = self.config.web
        if web.pin:
            self._core = keep_to_one_core()
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._event_fd, self._on_left)
        self.pump = Pump(
            str(self.run.path),
            event_fd=self._event_fd,
            server=f"tickcast/{metadata.version('tickcast')}",
            heartbeat_ms=web.heartbeat_ms,
            budget_ms=web.budget_ms,
            max_backlog_bytes=web.max_backlog_bytes,
            stall_ms=3 * web.heartbeat_ms,
        )
        self.control = Control(self.run.control_socket)
        self.metrics = Metrics(self.run.metrics)
        self._tasks.append(loop.create_task(self._publish()))
        if self.config.source is not None and os.environ.get("TICKCAST_SUPERVISED") != "1":
            await self._keep_processor()
        # What lives now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def _keep_processor(self) -> None:
        from tickcast.supervisor import ProcessorKeeper  # noqa: PLC0415  # a supervised gateway has no use for it

        self._keeper = ProcessorKeeper(self.config)
        await self._keeper.start()

    @property
    def clients(self) -> int:
        """WebSocket clients now."""
        return len(self._sessions)

    @contextlib.contextmanager
    def visit(self, session: Session) -> Iterator[None]:
        """Have a client's session told when the pump serves it no more."""
        self._sessions[session.client] = session
        self._empty.clear()
        try:
            yield
        finally:
            del self._sessions[session.client]
            if not self._sessions:
                self._empty.set()

    def tape(self) -> TapeReader | None:
        """Return the run directory's tape, None if there is none yet."""
        if self._tape is None or self._tape.superseded():
            with contextlib.suppress(TapeError, OSError):
                self._tape = TapeReader.open(str(self.run.path))
        return self._tape

    async def drain(self) -> None:
        """Take leave of all clients; those that come meanwhile are sent on."""
        if self.draining:
            return
        self.draining = True
        self.pump.stop(
            code=CloseCode.DRAINING,
            plain_code=GOING_AWAY,
            reason="the gateway is going down",
            retry_after_ms=RETRY_AFTER_MS,
        )
        await asyncio.to_thread(self.pump.join)
        self._on_left()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._empty.wait()

    async def close(self) -> None:
        """End what `start` began."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.control.close()
        if self._keeper is not None:
            await self._keeper.close()
        self.metrics.publish(self.pump.stats())
        asyncio.get_running_loop().remove_reader(self._event_fd)
        os.close(self._event_fd)
        if self._core is not None:
            self._core.close()

    def _on_left(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event_fd)
        for client, code, reason, pending in self.pump.left():
            session = self._sessions.get(client)
            if session is not None:
                session.leave(Left(code, reason, pending))

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(METRICS_S)
            self.metrics.publish(self.pump.stats())
