"""The follower: trades judged elsewhere → tape. It stands where a processor stands that has a source of ticks.

Gateways of the run-dir notice no difference: the same tape, the same board, the same control socket.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tickcast._core import TapeReader, TapeWriter
from tickcast.config import Config
from tickcast.errors import TapeError
from tickcast.follower.base import Known, Start, Trades, TradeSource
from tickcast.metrics import ProcessorMetrics
from tickcast.processor.control import ControlServer
from tickcast.rpc.server import RpcServer
from tickcast.rpc.services import Service
from tickcast.rpc.tape import SERVICE, TapeService
from tickcast.rundir import RunDir
from tickcast.sinks import Sink, open_sink
from tickcast.urls import mask

if TYPE_CHECKING:
    from tickcast.sources.base import SourceState

__all__ = ["Follower"]

log = logging.getLogger("tickcast.follower")

BOARD_S = 1.0
"""How often the status board is put up when nothing changes."""
SINK_DRAIN_S = 5.0
"""How long an orderly stop waits for the sinks."""


class Follower:
    """One follower over one run-dir. Made by `start`, driven by `run`."""

    def __init__(self, config: Config, source: TradeSource) -> None:
        self._config = config
        self._source = source
        self._run = RunDir(config.run_dir)
        self._metrics = ProcessorMetrics()
        self._writer: TapeWriter | None = None
        self._sinks: list[Sink] = []
        self._sinking: list[asyncio.Task[None]] = []
        self._control = ControlServer(self._run.control_socket, source.judge)
        self._draining = asyncio.Event()
        tape = TapeService(self._run.path, self._draining, source.judge)
        self._rpc = RpcServer(config.grpc, [Service(SERVICE, tape.methods())], self._draining)
        self._started_ns = time.time_ns()
        self._rule_set, self._volume_scale = "", config.volume_scale
        self._lost = 0
        self._counters = dict.fromkeys(("valid", "invalid", "unknown", "lost"), 0)

    @property
    def grpc_address(self) -> str:
        """Where its tape can be followed again, ``host:port``."""
        return self._rpc.address

    @classmethod
    async def start(cls, config: Config, source: TradeSource) -> "Follower":
        """Take up the tape of an earlier life, if there is one: it is shown, as stale, until the source is reached.

        Raises:
            TapeBusyError: Another process writes this tape.
            OSError: The run-dir can't be written.
        """
        follower = cls(config, source)
        await source.open(follower._take_up())
        await follower._control.start()
        await follower._rpc.start()
        follower._show()
        return follower

    async def run(self) -> None:
        """Follow until SIGTERM or SIGINT comes, also after the source has ended.

        Raises:
            SourceError: The source can't be read, and trying again would not help.
        """
        stopped = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        tasks = [asyncio.create_task(work) for work in (self._follow(), self._keep_board())]
        stopping = asyncio.create_task(stopped.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        await self._control.close()
        await self._rpc.drain()
        await self._source.close()
        self._show()
        await self._end_sinks()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)

    async def _follow(self) -> None:
        while (item := await self._source.next()) is not None:
            if isinstance(item, Start):
                await self._begin(item)
            else:
                await self._write(item)
        self._show()
        await asyncio.Event().wait()

    async def _write(self, trades: Trades) -> None:
        if self._writer is None:
            raise RuntimeError("trades came before the start of their tape")
        while (counts := trades.write(self._writer)) is None:  # noqa: ASYNC110 (sinks confirm in threads)
            await asyncio.sleep(0.01)  # a sink has not confirmed what would be overwritten: the source waits
        for status, count in zip(("unknown", "valid", "invalid"), counts, strict=True):
            if count:
                self._metrics.trades.labels(status).inc(count)
                self._counters[status] += count

    async def _begin(self, start: Start) -> None:
        """Make the tape such that the trades to come fit on it."""
        writer = self._writer
        if writer is None or not self._fits(writer, start):
            writer = await self._replace_tape(start)
        writer.learn(list(start.rules), list(start.rule_sets), start.rule_set)
        self._rule_set = start.rule_set
        self._volume_scale = self._config.volume_scale if start.volume_scale is None else start.volume_scale
        if start.from_seq is not None:
            await self._until(lambda: writer.skip((start.from_seq or 1) - 1))
        if start.snapshot is not None:
            writer.seed(*start.snapshot)
        self._show()

    def _fits(self, writer: TapeWriter, start: Start) -> bool:
        same = start.epoch in (None, writer.epoch) and self._enrichments == start.enrichments
        return same and not start.fresh

    async def _replace_tape(self, start: Start) -> TapeWriter:
        await self._end_sinks()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
            self._writer = None
        writer = self._open(start.epoch, start.enrichments, fresh=start.fresh)
        log.info("a tape of epoch %016x, %s", writer.epoch, "taken up" if writer.resumed else "new")
        return writer

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():  # noqa: ASYNC110 (sinks confirm in threads)
            await asyncio.sleep(0.01)

    def _take_up(self) -> Known | None:
        try:
            left = TapeReader.open(self._run.path)
        except (OSError, TapeError):
            return None
        writer = self._open(int(left.epoch, 16), tuple(left.enrichments()), fresh=False)
        self._rule_set = left.rule_set
        writer.learn([], [], left.rule_set)
        if not writer.resumed:
            return None
        return Known(
            epoch=writer.epoch,
            head=writer.head,
            enrichments=self._enrichments,
            positions=tuple(writer.positions),
        )

    def _open(self, epoch: int | None, enrichments: tuple[tuple[str, str], ...], *, fresh: bool) -> TapeWriter:
        self._enrichments = enrichments
        self._writer = TapeWriter(
            self._run.path,
            bytes=self._config.tape.bytes,
            enrichments=list(enrichments),
            rules=[],
            rule_set=self._rule_set,
            max_instruments=self._config.tape.max_instruments,
            fresh=fresh,
            epoch=epoch,
        )
        self._sinks = [open_sink(url, self._writer, self._config) for url in self._config.sinks]
        self._sinking = [asyncio.create_task(sink.run()) for sink in self._sinks]
        return self._writer

    async def _end_sinks(self) -> None:
        sinks, self._sinks = self._sinks, []
        sinking, self._sinking = self._sinking, []
        for task in sinking:
            task.cancel()
        await asyncio.gather(*sinking, return_exceptions=True)
        for sink in sinks:
            await sink.close(drain_s=SINK_DRAIN_S)

    async def _keep_board(self) -> None:
        """Put the board up when the source's state changes, and every second at least."""
        shown: SourceState | None = None
        last = 0.0
        while True:
            for task in self._sinking:
                if task.done():
                    task.result()
            state = self._source.state()
            if state != shown or time.monotonic() - last >= BOARD_S:
                shown, last = state, time.monotonic()
                self._show()
            await asyncio.sleep(0.1)

    def _show(self) -> None:
        source = self._source.state()
        self._counters["lost"] = self._source.lost
        self._metrics.lost.inc(self._source.lost - self._lost)
        self._lost = self._source.lost
        self._metrics.source_live.set(source.state == "live")
        if self._writer is None:
            return
        self._metrics.tape_head.set(self._writer.head)
        url = mask(self._config.source or "")
        board = {
            "pid": os.getpid(),
            "heartbeatNs": time.time_ns(),
            "startedNs": self._started_ns,
            "ruleSet": self._rule_set,
            "policy": self._config.judge.policy,
            "source": {"url": url, "state": source.state, "since": source.since, "detail": source.detail},
            "sinks": [
                {"url": mask(sink_url), "state": sink.state, "lag": sink.lag}
                for sink_url, sink in zip(self._config.sinks, self._sinks, strict=False)
            ],
            "rules": [],
            "breakers": [],
            "workers": [],
            "counters": {"ticks": 0, "undecodable": 0, "late": 0, "stamped": 0, **self._counters},
            "ruleCounters": {},
            "window": {"held": 0, "bytes": 0, "inBuckets": 0},
            "volumeScale": self._volume_scale,
        }
        self._writer.set_board(msgspec.json.encode(board))
