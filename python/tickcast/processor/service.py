"""The processor: source → judge → rules → tape → sinks, in one process that knows no browser."""

import asyncio
import contextlib
import logging
import math
import secrets
import signal
import time
from collections.abc import AsyncGenerator

from tickcast._core import Batch, Judged, Pending, TapeWriter
from tickcast.config import Config
from tickcast.metrics import ProcessorMetrics
from tickcast.processor.board import Board
from tickcast.processor.control import ControlServer
from tickcast.processor.deadletters import DeadLetters, open_post
from tickcast.processor.judging import Judging
from tickcast.processor.left_over import LeftOver
from tickcast.processor.line import Line, Queued
from tickcast.processor.outages import Outages
from tickcast.processor.pipeline import Pipeline, Rejudged
from tickcast.processor.progress import Progress
from tickcast.processor.traces import Traces
from tickcast.processor.windows import Checkpoints
from tickcast.rpc.server import RpcServer
from tickcast.rpc.services import make_services
from tickcast.rundir import RunDir
from tickcast.sinks import Sink, open_sink
from tickcast.sources import (
    LaggingSource,
    LogSource,
    RereadSource,
    SavingSource,
    SilentSource,
    Source,
    open_source,
)
from tickcast.sources.replay import END_OFFSET, ReplaySource
from tickcast.urls import mask

__all__ = ["Processor"]

log = logging.getLogger("tickcast.processor")

BOARD_S = 1.0
"""How often the status board is put up when nothing changes, and the windows' horizons are looked at."""

SAVE_S = 0.02
"""How often it is looked how far the sinks have come."""

FULL_S = 0.01
"""How often it is tried again to append to a tape that a sink holds up."""

LET_GO_SHARE = 16
"""This part of what a sink has not taken it loses when the tape is full and the source can't wait."""

TAPE_SHARE = 8
"""A batch is at most this part of the tape."""

LETTERS_S, LETTERS_RETRY_S = 10.0, 1.0
"""Pause between two lines in the log about dead letters, and between two attempts to write some."""
SINK_DRAIN_S = 5.0
"""How long an orderly stop waits for the sinks."""


class Processor:
    """One processor over one run-dir, from taking the tape up to letting it go. Made by `start`, driven by `run`."""

    def __init__(self, config: Config, pipeline: Pipeline) -> None:
        self._config = config
        self._run = RunDir(config.run_dir)
        self._pipeline = pipeline
        self._metrics = ProcessorMetrics()
        self._source: Source = open_source(config, pipeline.declaration.lookback_ns)
        self._writer = self._take_tape_up()
        self._letters = DeadLetters(config.dead_letters_path, post=open_post(config.dead_letters, config.kafka_options))
        self._progress = Progress(self._writer.head, self._writer.positions)
        self._traces = Traces()
        self._sinks: list[Sink] = [
            open_sink(url, self._writer, config, self._source, self._progress, self._traces) for url in config.sinks
        ]
        self._board = Board(config, pipeline, self._writer, self._metrics)
        self._control = ControlServer(self._run.control_socket, self.judge_client_tick, self._rejudge)
        # Ticks of clients have no position: a stream of their own for each start, and a counter.
        self._client_stream, self._client_ticks = secrets.randbits(32), 0
        self._rpc_ticks = 0
        self._losing: set[str] = set()
        self._outages = Outages()
        self._undecodable, self._letters_told_s, self._letters_trouble = 0, -math.inf, ""
        self._line = Line(pipeline.judging, self._count_begun, self._append)
        self._checkpoints = self._make_checkpoints()
        self._log = self._source if isinstance(self._source, LogSource) else None
        if self._log is not None:
            self._log.attach(self._writer.epoch, self._begin_partition)
        if isinstance(self._source, SilentSource):
            pipeline.judging.earlier = self._source.earlier
        draining = asyncio.Event()
        self._rpc = RpcServer(config.grpc, make_services(config, self, draining), draining)

    @classmethod
    async def start(cls, config: Config) -> "Processor":
        """Start the rules, take the tape up and refill the windows from it.

        Raises:
            ConfigError: A value is wrong, or the gRPC server's port is taken.
            RuleError: The rule set can't be loaded.
            TapeBusyError: Another processor writes this tape.
            OSError: The run-dir can't be written.
        """
        pipeline = Pipeline(config)
        await pipeline.start()
        try:
            processor = cls(config, pipeline)
            refilled = await processor._refill()
            await processor._control.start()
            await processor._rpc.start()
        except BaseException:
            await pipeline.close()
            raise
        if processor._writer.resumed:
            log.info("took the tape up at %d, %d ticks back in the windows", processor._writer.head, refilled)
        processor._show()
        return processor

    @property
    def grpc_address(self) -> str:
        """Where the gRPC server listens, ``host:port``."""
        return self._rpc.address

    def new_stream(self) -> Judging | Line:
        """Return what judges one client's stream: windows of its own, or with ``grpc.publish`` the line of all."""
        self._metrics.rpc_streams.inc()
        return self._line if self._config.grpc.publish else self._pipeline.new_judging()

    def count_client_ticks(self, ticks: int) -> None:
        """Count ticks that came over gRPC."""
        self._rpc_ticks += ticks  # the metric lies in a file: it is brought up to date with the board

    async def run(self) -> None:
        """Process until SIGTERM or SIGINT comes, also after the source has ended.

        Raises:
            SourceError: The source can't be read, and trying again would not help.
        """
        stopped = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        stopping = asyncio.create_task(stopped.wait())
        work = (self._line.run, self._stream, self._keep_board, self._keep_saved)
        tasks = [asyncio.create_task(one()) for one in work]
        tasks += [asyncio.create_task(sink.run()) for sink in self._sinks]
        if self._checkpoints is not None:
            tasks.append(asyncio.create_task(self._checkpoints.run()))
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            stopping.cancel()
            await self._close(tasks)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        await self._rpc.drain()
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._control.close()
        self._show()
        await self._pipeline.close()
        if self._checkpoints is not None and not self._line.is_delivering:
            await self._checkpoints.save()
        for sink in self._sinks:
            await sink.close(drain_s=SINK_DRAIN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._save(), 2.0)
        await self._source.close()
        self._letters.close()
        await asyncio.to_thread(self._writer.close)

    async def _refill(self) -> int:
        """Refill the windows from checkpoint and tape, and show the rules again what they remember.

        A log does it itself, for the partitions that it is given.
        """
        lookback_ns = self._pipeline.declaration.lookback_ns
        if self._log is not None:
            self._pipeline.judge.keep_horizons(lookback_ns)
            await asyncio.to_thread(self._log.earlier.recall, self._writer)
            return 0
        ticks = await self._refill_windows()
        if isinstance(self._source, RereadSource):
            await asyncio.to_thread(self._source.earlier.recall, self._writer)
            first = await asyncio.to_thread(self._writer.first_positions)
            self._source.attach_tape(first, self._begin_stream)
        else:
            await self._look_back()
        return ticks

    async def _look_back(self) -> None:
        """Show the rules again what they remember of the tape."""
        lookback_ns = self._pipeline.declaration.lookback_ns
        if lookback_ns > 0:
            seen = await asyncio.to_thread(self._writer.look_back, self._pipeline.judge, lookback_ns)
            if len(seen):  # they are on the tape: what is said of them now does not count
                await self._pipeline.judging.submit(seen)

    async def _begin_stream(self, stream: int, partition: int, anew: bool) -> None:
        """Have a stream go on with what the tape has filled the windows with, or have them filled anew."""
        if anew:
            log.info("the tape holds less than the windows: they are filled from the log")
            await self._line.forget(stream, partition)
            self._progress.forget(stream, partition)  # what the windows needed when they held less
        else:
            await self._look_back()

    async def _refill_windows(self) -> int:
        if self._checkpoints is not None:
            restored = await asyncio.to_thread(self._checkpoints.restore)
            self._board.tell_restored(restored)
            return restored.from_checkpoint + restored.from_tape
        self._pipeline.judge.keep_horizons(self._pipeline.declaration.lookback_ns)
        return await asyncio.to_thread(self._writer.refill, self._pipeline.judge)

    def _make_checkpoints(self) -> Checkpoints | None:
        """Return what keeps the windows on disk where the source can't give their ticks again."""
        if self._source.positioned:
            return None
        return Checkpoints(
            self._run.windows, self._pipeline.judge, self._line, self._writer, self._config.window.checkpoint_s
        )

    async def _stream(self) -> None:
        """Read, judge and put on the tape, until the source ends; then stay, for clients' ticks."""
        await self._source.open(self._writer.positions)
        self._show()
        room = asyncio.Semaphore(self._config.judge.in_flight)
        last: Queued | None = None
        async with contextlib.aclosing(self._batches()) as batches:
            async for batch in batches:
                if batch.has_undecodable and not batch.silent:  # on disk before the position behind it is
                    await self._keep_dead_letters(batch)
                if self._sinks and batch.traceparents:
                    self._traces.note(batch.traceparents)
                await room.acquire()
                last = self._line.begin(batch, live=self._source.live, positioned=self._source.positioned)
                last.delivered.add_done_callback(lambda _: room.release())
        if last is not None:
            await last.delivered
        if isinstance(self._source, ReplaySource):
            self._writer.commit((self._source.stream, 0, END_OFFSET, 0))
        self._show()
        await asyncio.Event().wait()

    async def _batches(self) -> AsyncGenerator[Batch, None]:
        # The tape takes no batch that is more than half of it.
        most = min(self._config.judge.batch_rows, max(1, self._writer.slots // TAPE_SHARE))
        gather_s = self._config.judge.gather_ms / 1000
        while (batch := await self._source.next(most)) is not None:
            taken_s = time.monotonic()
            yield batch
            # A batch costs the same for one tick as for fifty: on a busy source they come together.
            if batch.rows < most // 2 and (left_s := taken_s + gather_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)

    async def _keep_dead_letters(self, batch: Batch) -> None:
        count, lines = await asyncio.to_thread(self._letters.post, batch)
        while not await self._has_room_for_letters(lines):
            if not self._source.positioned:
                break  # to wait would be to lose ticks that are right
            await asyncio.sleep(LETTERS_RETRY_S)
        self._board.counters["undecodable"] += count
        self._undecodable += count
        if time.monotonic() >= self._letters_told_s + LETTERS_S:
            where = mask(self._config.dead_letters or str(self._config.dead_letters_path))
            log.info("%d undecodable, now in %s; the last: %s", self._undecodable, where, batch.undecodable[-1][2])
            self._letters_told_s, self._undecodable = time.monotonic(), 0

    async def _has_room_for_letters(self, lines: bytes) -> bool:
        """Write dead letters; False if the disk refuses, which ends nothing: the source can give them again."""
        try:
            await asyncio.to_thread(self._letters.append, lines)
            self._letters_trouble = ""
        except OSError as error:
            fate = "the source waits" if self._source.positioned else "they are lost"
            self._letters_trouble = f"{self._config.dead_letters_path}: {error.strerror or error}; {fate}"
        return not self._letters_trouble

    def _count_begun(self, batch: Batch, pending: Pending) -> None:
        if batch.silent:
            return
        self._board.counters["ticks"] += batch.rows
        self._board.counters["late"] += pending.late
        self._board.counters["stamped"] += pending.stamped

    async def _begin_partition(self, stream: int, partition: int, goes_on: bool) -> int:
        """Have a source partition begin anew; return the tape's head, behind which it does."""
        await self._line.forget(stream, partition)
        if not goes_on:
            self._progress.forget(stream, partition)
        return self._writer.head

    async def _append(self, judged: Judged, positioned: bool) -> None:
        if judged.silent:
            return
        while (written := self._writer.append(judged, positioned)) is None:
            # A sink has not confirmed what would be overwritten. A log waits, nothing is lost; of others the tape is
            # the buffer, and what is beyond it is lost to that sink alone.
            if self._source.positioned:
                await asyncio.sleep(FULL_S)
            else:
                self._let_go()
        if positioned:
            self._progress.note(written[1], judged.last_positions)
            if self._log is not None:
                self._log.appended(judged.last_positions)
        unknown, valid, invalid = judged.counts
        for status, count in (("unknown", unknown), ("valid", valid), ("invalid", invalid)):
            self._board.counters[status] += count
        if judged.last_arrival_ns:
            self._board.judging_s.append((time.time_ns() - judged.last_arrival_ns) / 1e9)

    def _let_go(self) -> None:
        most = max(sink.lag for sink in self._sinks) // LET_GO_SHARE + 1
        lost = self._writer.let_go(most)
        if lost is not None:
            name, count = lost
            self._metrics.sink_lost.labels(name).inc(count)
            if name not in self._losing:
                self._losing.add(name)
                log.warning("%s has not taken its trades in time, and loses the oldest ones", name)

    async def _keep_saved(self) -> None:
        """Tell the source how far tape and sinks have come."""
        while True:
            await self._save()
            await asyncio.sleep(SAVE_S)

    async def _save(self) -> None:
        head = self._writer.head
        for position in self._progress.reached(head - max((sink.lag for sink in self._sinks), default=0)):
            await self._source.saved(position, self._progress.lowest(position))

    async def judge_client_tick(self, payload: bytes) -> list[str]:
        """Judge a client's tick against the windows without entering it; return its trades as JSON."""
        self._client_ticks += 1
        self._metrics.client_ticks.inc()
        return await self._pipeline.peek(payload, self._client_stream, self._client_ticks)

    async def _rejudge(self, payload: bytes, rules_vwap: float | None) -> Rejudged:
        self._client_ticks += 1
        return await self._pipeline.rejudge(payload, self._client_stream, self._client_ticks, rules_vwap)

    async def _keep_board(self) -> None:
        """Put the board up when the source's state or a breaker changes, and every second at least."""
        shown: object = None
        last = 0.0
        while True:
            self._note_outages()
            state = (self._source.state(), self._board.breakers())
            if state != shown or time.monotonic() - last >= BOARD_S:
                shown, last = state, time.monotonic()
                self._show()
                self._progress.note_horizons(self._pipeline.judge.horizons())
            await asyncio.sleep(0.1)

    def _note_outages(self) -> None:
        source = self._source.state()
        self._outages.note("the source", works=source.state != "reconnecting", detail=source.detail)
        self._outages.note("the file of dead letters", works=not self._letters_trouble, detail=self._letters_trouble)
        if isinstance(self._source, SavingSource):
            trouble = self._source.save_trouble
            self._outages.note("saving the source's position", works=trouble is None, detail=trouble or "")
        for url, sink in zip(self._config.sinks, self._sinks, strict=True):
            self._outages.note(f"sink {mask(url)}", works=sink.state == "live", detail=sink.state)

    def _show(self) -> None:
        self._metrics.rpc_ticks.inc(self._rpc_ticks)
        self._rpc_ticks = 0
        lags = self._source.lags() if isinstance(self._source, LaggingSource) else []
        self._board.show(self._source.state(), self._source.lost, self._sinks, lags, self._checkpoints)

    def _take_tape_up(self) -> TapeWriter:
        left_over = LeftOver(self._run.path)
        writer = self._open_tape(fresh=False)
        if isinstance(self._source, ReplaySource) and self._source.ended_on(writer.positions):
            writer.close()
            writer = self._open_tape(fresh=True)
        else:
            left_over.tell(writer, self._config.sinks)
        return writer

    def _open_tape(self, *, fresh: bool) -> TapeWriter:
        declaration = self._pipeline.declaration
        return TapeWriter(
            self._run.path,
            bytes=self._config.tape.bytes,
            enrichments=[(e.name, e.unit) for e in declaration.enrichments],
            rules=[rule.name for rule in declaration.rules],
            rule_set=declaration.label,
            max_instruments=self._config.tape.max_instruments,
            fresh=fresh,
        )
