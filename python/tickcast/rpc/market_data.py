"""Ticks in, trades out, on one stream: `ProcessStream` of the original contract, and its sister for batches.

A call has windows of its own, and its trades reach its caller alone, unless `grpc.publish` has them go through the line
of the tape like those of a source. Whatever a client sends is answered, in order: what can't be decoded or fails the
screen is INVALID with a reason, and no reason to end the stream.

Ticks that are under way together are judged together. A client that waits for each answer gets it at once; one that
sends ahead has its ticks gathered for a few milliseconds, since a batch costs the same for one tick as for fifty.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import grpc

from tickcast._core import Batch, Judged, MessageDecoder
from tickcast.config import Config
from tickcast.processor.judging import Begun, Judging
from tickcast.processor.line import Line, Queued
from tickcast.rpc.status import abort, retry_later
from tickcast.rpc.tracing import BatchTrace, follow

__all__ = ["MarketData"]

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

_TURNS: Final = 4
"""Batches of all calls that are at the rules at once: half of what a rule worker takes, the rest is the source's."""
_AHEAD: Final = 4
"""Batches of one call that may wait for its client to read."""
_SPANS: Final = {"proto": "ProcessStream", "proto-batch": "ProcessBatches"}
_ENOUGH_TO_JUDGE: Final = 128
"""Messages for which the costs of a batch hardly count any more."""
_MORE_LOOKS: Final = 3
"""How often a call that sends ahead is given `judge.gather_ms` more, while ticks keep coming."""
_ENOUGH_TO_WRITE: Final = 16
"""Replies that keep the connection busy while the next ones are judged."""
_BYTES_A_TICK: Final = 40
"""What a tick takes on the wire, about: bounds how much of a call is judged at once."""


class MarketData:
    """The two methods. Belongs to one event loop.

    Args:
        config: Sizes of batches.
        new_judging: Returns what judges the ticks of a new call.
        draining: Set when the server is about to end.
        count: Told of ticks as they are taken.
    """

    def __init__(
        self,
        config: Config,
        new_judging: Callable[[], Judging | Line],
        draining: asyncio.Event,
        count: Callable[[int], None],
    ) -> None:
        self._new_judging = new_judging
        self._draining = draining
        self._count = count
        self._turns = asyncio.Semaphore(_TURNS)
        self._rows = config.judge.batch_rows
        self._gather_s = config.judge.gather_ms / 1_000

    async def process_stream(self, _: object, context: Context) -> None:
        """Answer each ``RawMarketTick`` with a ``ValidatedTrade``."""
        await self._answer(_Call(context, "proto", self._rows, self._gather_s), Judged.proto)

    async def process_batches(self, _: object, context: Context) -> None:
        """Answer each ``RawMarketTickBatch`` with a ``ValidatedTradeBatch``."""
        await self._answer(_Call(context, "proto-batch", self._rows, 0.0), Judged.proto_batches)

    async def _answer(self, call: "_Call", encode: Callable[[Judged], list[bytes]]) -> None:
        # Some clients (tonic) give nothing to their user before they have it.
        await call.context.send_initial_metadata(())
        begun: asyncio.Queue[_Batch | None] = asyncio.Queue(_AHEAD)
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(call.receive())
            draining = tasks.create_task(self._end_on_drain(call, receiving))
            tasks.create_task(self._judge(call, begun))
            while (batch := await begun.get()) is not None:
                replies = encode(await batch.judged())
                await call.send(replies)
                batch.delivered()
            draining.cancel()
        if self._draining.is_set():
            why = "the server is about to end; call again"
            await abort(call.context, grpc.StatusCode.UNAVAILABLE, why, retry_later())

    async def _judge(self, call: "_Call", begun: "asyncio.Queue[_Batch | None]") -> None:
        judging = self._new_judging()
        while await call.some():
            await self._turns.acquire()
            try:
                ticks, trace = call.take()
                self._count(ticks.rows)
                item = judging.begin(ticks, live=True)
            except BaseException:
                self._turns.release()
                raise
            item.verdicts.add_done_callback(self._release)
            await begun.put(_Batch(item, trace))
        await begun.put(None)

    def _release(self, _: object) -> None:
        self._turns.release()

    async def _end_on_drain(self, call: "_Call", receiving: asyncio.Task[None]) -> None:
        await self._draining.wait()
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        call.end()


class _Batch:
    """A batch of a call at the rules, and its trace if the call has one."""

    __slots__ = ("_begun", "_ruled_ns", "_trace")

    def __init__(self, begun: Begun, trace: BatchTrace | None) -> None:
        self._begun = begun
        self._trace = trace
        self._ruled_ns = 0
        if trace is not None:
            begun.verdicts.add_done_callback(self._note_rules)

    async def judged(self) -> Judged:
        """Wait for the trades; where they are published, until they are on the tape."""
        judged = await self._begun.judged()
        if self._trace is not None:
            self._trace.stage("rules", self._ruled_ns or None)
            self._trace.stage("tape" if isinstance(self._begun, Queued) else "settle")
        return judged

    def delivered(self) -> None:
        """Note that the replies are written."""
        if self._trace is not None:
            self._trace.stage("deliver")
            self._trace.end()

    def _note_rules(self, _: object) -> None:
        self._ruled_ns = time.time_ns()


class _Call:
    """What one client has sent and was not yet answered."""

    def __init__(self, context: Context, form: str, rows: int, gather_s: float) -> None:
        self.context = context
        self._decoder = MessageDecoder(form, stream=secrets.randbits(32))
        self._trace = follow(context.invocation_metadata(), _SPANS[form])
        self._most_messages, self._most_bytes = rows, rows * _BYTES_A_TICK
        self._gather_s = gather_s
        self._messages: list[bytes] = []
        self._arrival_ns: list[int] = []
        self._bytes = 0
        self._unanswered = 0
        self._sends_ahead = False
        self._to_write = 0
        self._written = asyncio.Event()
        self._taken_s = 0.0
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def receive(self) -> None:
        """Read until the client is done, pausing while too much waits."""
        read, end_of_stream = self.context.read, cast("Any", grpc.aio.EOF)
        messages, arrival_ns = self._messages, self._arrival_ns
        while (message := await read()) is not end_of_stream:
            messages.append(message)
            arrival_ns.append(time.time_ns())
            self._bytes += len(message)
            self._sends_ahead |= self._unanswered > 0
            self._unanswered += 1
            self._news.set()
            if self._is_full():
                self._written.set()
                self._room.clear()
                await self._room.wait()
        self.end()

    def _is_full(self) -> bool:
        return len(self._messages) >= self._most_messages or self._bytes >= self._most_bytes

    def end(self) -> None:
        """Note that no more will come."""
        self._ended = True
        self._news.set()

    async def some(self) -> bool:
        """Wait until it is time to judge what has come; False: there will be nothing more."""
        if not self._messages:
            self._news.clear()
            if not self._ended:
                await self._news.wait()
        if self._sends_ahead:
            await self._gather()
        return bool(self._messages)

    async def _gather(self) -> None:
        """Let what a client sends ahead come together: a batch costs the same for one tick as for fifty."""
        if (left_s := self._taken_s + self._gather_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        seen = 0
        for _ in range(_MORE_LOOKS):
            if len(self._messages) < seen + 2 or len(self._messages) >= _ENOUGH_TO_JUDGE:
                break  # no more than one came since: they trickle
            seen = len(self._messages)
            await asyncio.sleep(self._gather_s)
        # As long as there is enough to write, waiting for more costs nobody anything.
        while self._to_write > _ENOUGH_TO_WRITE and not self._is_full():
            self._written.clear()
            await self._written.wait()

    def take(self) -> tuple[Batch, BatchTrace | None]:
        """Return all that has come, decoded."""
        messages, arrival_ns = self._messages[:], self._arrival_ns[:]
        self._messages.clear()
        self._arrival_ns.clear()
        self._bytes = 0
        self._sends_ahead = False
        self._taken_s = time.monotonic()
        self._room.set()
        if self._trace is None:
            return self._decoder.decode(messages, arrival_ns), None
        taken_ns = time.time_ns()
        batch = self._decoder.decode(messages, arrival_ns)
        return batch, self._trace.batch(batch.rows, arrival_ns[0], taken_ns)

    async def send(self, replies: list[bytes]) -> None:
        """Write replies, in order; waits while the client does not read."""
        write = self.context.write
        self._to_write = len(replies)
        for reply in replies:
            self._unanswered -= 1  # before: the client may have it, and send again, before the write is through
            self._to_write -= 1
            if self._to_write == _ENOUGH_TO_WRITE:
                self._written.set()
            await write(reply)
