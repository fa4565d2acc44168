"""``tickcast.v1.Tape``: the tape to gRPC subscribers.

One task looks at the tape some 40 times a second and makes one frame for each distinct subscription; all its streams
send the very same bytes. A stream is a place on the tape and nothing else: one that has fallen behind the common frames
gets some of its own until it has caught up. What a subscriber does not read stays on the tape: ``write`` waits for the
transport's flow control, and one that stands still for too long is let go.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import msgspec
from google.protobuf.message import DecodeError

from tickcast._core import TapeFeed, TapeFilter, __version__
from tickcast.errors import TapeError
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.status import abort, retry_later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["SERVICE", "TapeService"]

SERVICE = "tickcast.v1.Tape"
FRAMES_PER_S = 40
"""How often a subscription gets what is new."""
COHORT = 50
"""Most streams that get their frames at the same moment: more would wait for one another."""
FRAME_TRADES = 4_096
FRAME_BYTES = 256 * 1024
"""Most bytes of a frame: a stream never has more than one that is not in the transport's hands."""
SHARED_BYTES = 1024 * 1024
"""Bytes of frames that a subscription keeps for streams a little behind."""
HEARTBEAT_S = 1.0
STALL_S = 15.0
"""A subscriber that takes nothing for so long is let go."""
STALE_NS = 2_000_000_000
"""A processor that has not touched its board for so long is taken for dead."""
LOOK_S = 0.5
"""How often a stream looks at the source's state, and whether the tape was replaced."""
MOST_INSTRUMENTS = 10_000
_GOLDEN = 0.618  # multiples of it, less the whole part, never come close to one another
MOST_FROM_START = 16_384
"""Most trades of a new tape that subscribers of the old one still get one by one."""

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Wanted: TypeAlias = "tuple[tuple[str, ...] | None, tuple[int, ...] | None, bool, bool]"
"""Instruments, statuses, stages, why: equal ones get the same frames."""


class _Frame(msgspec.Struct, frozen=True):
    """A frame that streams share."""

    seq: int
    to_seq: int
    body: bytes


class _Channel:
    """A cohort of a distinct subscription: its newest frames, how far they reach, and when the next one is due."""

    def __init__(self, wanted: Wanted, number: int, next_seq: int, known: tuple[int, int], due: float) -> None:
        self.wanted = wanted
        self.number = number
        self.due = due
        self.filter = filter_of(wanted)
        self.next_seq = next_seq
        self.known = known
        self.streams = 0
        self._frames: deque[_Frame] = deque()
        self._bytes = 0
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def advance(self, feed: TapeFeed, head: int) -> None:
        """Make the frames of what is new up to `head`."""
        while self.next_seq <= head:
            seq = self.next_seq
            kind, to, body, _, known = feed.frame(self.filter, seq, self.known, FRAME_TRADES, FRAME_BYTES)
            if kind == "frame" and to < seq:
                break
            self.next_seq = to if kind == "overrun" else to + 1
            if body is not None:
                self.known = known
                self._add(_Frame(seq, to, body))
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    def _add(self, frame: _Frame) -> None:
        self._frames.append(frame)
        self._bytes += len(frame.body)
        while self._bytes > SHARED_BYTES and len(self._frames) > 1:
            self._bytes -= len(self._frames.popleft().body)

    def at(self, seq: int) -> _Frame | None:
        """Return the shared frame that covers `seq`."""
        for frame in reversed(self._frames):
            if frame.seq <= seq:
                return frame if seq <= frame.to_seq else None
        return None

    async def news(self, timeout_s: float) -> None:
        """Wait until there is more, not for ever."""
        await asyncio.wait([self._news], timeout=timeout_s)


class TapeService:
    """Serves the tape of a run-dir. Belongs to one event loop.

    Args:
        run_dir: Where the tape is, or will be.
        draining: Set before the server ends: streams end with UNAVAILABLE.
        judge: Judges a client's tick, given as JSON; None: nobody does here.
        heartbeat_s: Pause between heartbeats to a quiet subscriber.
        stall_s: How long a subscriber may take nothing.
    """

    def __init__(
        self,
        run_dir: Path,
        draining: asyncio.Event,
        judge: Callable[[bytes], Awaitable[list[str]]] | None = None,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.draining = draining
        self.heartbeat_s = heartbeat_s
        self.stall_s = stall_s
        self.figures = {"streams": 0, "frames": 0, "bytes": 0, "evicted": 0}
        """Streams now; frames and bytes sent, and subscribers let go as too slow, since the start."""
        self._judge = judge
        self._run_dir = run_dir
        self._feed: TapeFeed | None = None
        self._channels: dict[tuple[Wanted, int], _Channel] = {}
        self._making: asyncio.Task[None] | None = None
        self._looked: tuple[TapeFeed, float, tuple[str, str, int]] | None = None

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers, which take and give bytes."""
        return {
            "Subscribe": grpc.unary_stream_rpc_method_handler(self.subscribe),
            "Snapshot": grpc.unary_unary_rpc_method_handler(self.snapshot),
            "Judge": grpc.unary_unary_rpc_method_handler(self.judge),
        }

    async def subscribe(self, request: bytes, context: Context) -> None:
        """Send frames until either side has had enough."""
        asked = await _parsed(pb.SubscribeRequest.FromString, request, context)
        wanted = await _checked(asked, context)
        # Some clients (tonic) give nothing to their user before they have it.
        await context.send_initial_metadata(())
        feed = await self._tape_or_abort(context)
        self.figures["streams"] += 1
        try:
            await _Stream(self, feed, asked, wanted, context).run()
        finally:
            self.figures["streams"] -= 1

    async def snapshot(self, request: bytes, context: Context) -> bytes:
        """Return the newest VALID trade of each instrument."""
        asked = await _parsed(pb.SnapshotRequest.FromString, request, context)
        feed = await self._tape_or_abort(context)
        hello = self.hello(feed)
        wanted = filter_of((tuple(asked.instruments) or None, None, False, False))
        known = (len(hello.instruments), len(hello.reasons))
        body, _, _ = await asyncio.to_thread(feed.snapshot, wanted, known)
        return pb.SnapshotResponse(hello=hello, snapshot=body).SerializeToString()

    async def judge(self, request: bytes, context: Context) -> bytes:
        """Judge a client's tick."""
        asked = await _parsed(pb.JudgeRequest.FromString, request, context)
        if self._judge is None:
            await abort(context, grpc.StatusCode.UNIMPLEMENTED, "this server has no rules")
            raise AssertionError("abort has raised")
        return pb.JudgeResponse(trades=await self._judge(asked.tick)).SerializeToString()

    def tape(self) -> TapeFeed | None:
        """Return the tape as it is now."""
        if self._feed is None or self._feed.superseded():
            try:
                self._feed = TapeFeed.open(self._run_dir)
            except (OSError, TapeError):
                return self._feed
            self._channels = {}
        return self._feed

    def join(self, wanted: Wanted, feed: TapeFeed) -> _Channel:
        """Return a channel of a subscription with room for one more; a new one begins at the head. `leave` it."""
        number = 0
        while (channel := self._channels.get((wanted, number))) is not None and channel.streams >= COHORT:
            number += 1
        if channel is None:
            known = (len(feed.instruments()), len(feed.reasons()))
            # The cohorts' moments are spread over the pause between frames, however many come and go.
            now = asyncio.get_running_loop().time()
            due = now + number * _GOLDEN % 1 / FRAMES_PER_S
            channel = self._channels[wanted, number] = _Channel(wanted, number, feed.head + 1, known, due)
        channel.streams += 1
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make())
        return channel

    def leave(self, channel: _Channel) -> None:
        """Forget a channel that nobody uses any more."""
        channel.streams -= 1
        key = (channel.wanted, channel.number)
        if channel.streams == 0 and self._channels.get(key) is channel:
            del self._channels[key]

    def hello(self, feed: TapeFeed) -> pb.Hello:
        """Return what the tape announces."""
        return pb.Hello(
            epoch=feed.epoch,
            seq=feed.head,
            oldest=feed.oldest,
            heartbeat_ms=round(self.heartbeat_s * 1000),
            instruments=feed.instruments(),
            reasons=feed.reasons(),
            enrichments=[pb.Enrichment(name=name, unit=unit) for name, unit in feed.enrichments()],
            server=f"tickcast {__version__}",
            rules=feed.rules(),
            rule_sets=feed.rule_sets(),
            rule_set=feed.rule_set,
        )

    def status(self, feed: TapeFeed) -> tuple[str, str, int]:
        """Return source, state and since when (ns); looked up once for all streams that ask at about the same time."""
        now = asyncio.get_running_loop().time()
        if self._looked is None or self._looked[0] is not feed or now - self._looked[1] > LOOK_S / 4:
            self._looked = (feed, now, status_of(feed.board()))
        return self._looked[2]

    async def _make(self) -> None:
        """Make what is new for every channel when it is due, on an absolute clock, as long as there is one."""
        clock = asyncio.get_running_loop().time
        while self._channels:
            feed = self.tape()
            now = clock()
            for channel in list(self._channels.values()):
                if channel.due > now:
                    continue
                channel.due = max(channel.due + 1 / FRAMES_PER_S, now)
                if feed is not None and channel.next_seq <= feed.head:
                    channel.advance(feed, feed.head)
            next_due = min((channel.due for channel in self._channels.values()), default=now)
            # Whoever joins meanwhile is due within the pause between two frames.
            await asyncio.sleep(min(max(0.001, next_due - clock()), 1 / FRAMES_PER_S))

    async def _tape_or_abort(self, context: Context) -> TapeFeed:
        feed = self.tape()
        if self.draining.is_set():
            await abort(context, grpc.StatusCode.UNAVAILABLE, "the server goes down; call again", retry_later())
        if feed is None:
            await abort(context, grpc.StatusCode.UNAVAILABLE, "there is no tape yet; call again", retry_later())
            raise AssertionError("abort has raised")
        return feed


class _Stream:
    """One call of ``Subscribe``."""

    def __init__(
        self, service: TapeService, feed: TapeFeed, request: pb.SubscribeRequest, wanted: Wanted, context: Context
    ) -> None:
        self._service = service
        self._feed = feed
        self._wanted = wanted
        self._context = context
        self._resume = (request.from_seq, request.epoch) if request.HasField("from_seq") else None
        self._snapshot = request.snapshot if request.HasField("snapshot") else True
        self._strict = request.strict
        self._pause_s = 1 / request.max_rate_hz if request.HasField("max_rate_hz") else 0.0
        self._cursor = 1
        self._known = (0, 0)
        self._status: tuple[str, str, int] | None = None

    async def run(self) -> None:
        """Send until either side has had enough."""
        while True:
            channel = self._service.join(self._wanted, self._feed)
            try:
                await self._begin()
                await self._follow(channel)
            finally:
                self._service.leave(channel)
            if self._service.draining.is_set():
                why = "the server goes down; call again"
                await abort(self._context, grpc.StatusCode.UNAVAILABLE, why, retry_later())
            # Another tape: its first trade is the next that is wanted, unless it has come a long way already.
            old_epoch = self._feed.epoch
            self._feed = self._service.tape() or self._feed
            young = self._feed.oldest == 1 and self._feed.head <= MOST_FROM_START
            self._resume = (1, "" if young or self._strict else old_epoch)

    async def _begin(self) -> None:
        hello = self._service.hello(self._feed)
        self._known = (len(hello.instruments), len(hello.reasons))
        self._status = None
        await self._write(pb.Frame(hello=hello))
        gap, snapshot = await self._place(hello.epoch)
        subscribed = pb.Subscribed(from_seq=self._cursor, snapshot=snapshot is not None, mode=pb.MODE_TAPE)
        await self._write(pb.Frame(subscribed=subscribed))
        await self._write_status()
        await self._write_start(gap, snapshot)

    async def _place(self, epoch: str) -> tuple[pb.Gap | None, bytes | None]:
        """Set the cursor; return what has to be said before."""
        if self._resume is None:
            return await self._place_at_head(None)
        (wanted, of_epoch), oldest, head = self._resume, self._feed.oldest, self._feed.head
        here = of_epoch in ("", epoch)
        if here and oldest <= wanted <= head + 1:
            self._cursor = wanted
            return None, None
        if self._strict:
            what = f"sequence {wanted} of epoch {of_epoch or epoch}"
            await self._out_of_range(f"{what} can't be had: epoch {epoch} has {oldest} to {head}")
        return await self._place_at_head((wanted, "overrun") if here and wanted < oldest else (1, "epoch"))

    async def _place_at_head(self, missed: tuple[int, str] | None) -> tuple[pb.Gap | None, bytes | None]:
        snapshot, to = None, self._feed.head
        if self._snapshot:
            taken = await asyncio.to_thread(self._feed.snapshot, filter_of(self._wanted), self._known)
            snapshot, to, self._known = taken
        self._cursor = to + 1
        gap = None if missed is None or missed[0] > to else gap_of(missed[0], to, missed[1])
        return gap, snapshot

    async def _write_start(self, gap: pb.Gap | None, snapshot: bytes | None) -> None:
        if gap is not None:
            await self._write(pb.Frame(gap=gap))
        if snapshot is not None:
            await self._write(pb.Frame(snapshot=snapshot))

    async def _follow(self, channel: _Channel) -> None:
        """Send trades until another tape takes this one's place, or the server drains."""
        clock = asyncio.get_running_loop().time
        beat_at, look_at = clock() + self._service.heartbeat_s, clock() + LOOK_S
        while not self._service.draining.is_set():
            if clock() >= look_at:
                look_at = clock() + LOOK_S
                await self._write_status()
                if self._feed.superseded() and self._cursor > self._feed.head:
                    return
            if self._cursor < channel.next_seq:
                if await self._send_next(channel):
                    beat_at = clock() + self._service.heartbeat_s
                    await asyncio.sleep(self._pause_s)
                continue
            await channel.news(max(0.0, min(beat_at, look_at) - clock()))
            if clock() >= beat_at:
                beat_at = clock() + self._service.heartbeat_s
                await self._write(pb.Frame(heartbeat=pb.Heartbeat(seq=self._cursor - 1)))

    async def _send_next(self, channel: _Channel) -> bool:
        """Send what comes next; False: nothing of it was wanted."""
        shared = channel.at(self._cursor)
        # One with a rate of its own is served like one that lags: what has come rides together.
        if shared is not None and shared.seq == self._cursor and not self._pause_s:
            await self._write_bytes(shared.body)
            self._cursor = shared.to_seq + 1
            self._known = channel.known
            return True
        last = channel.next_seq - 1 if shared is None or self._pause_s else shared.to_seq
        most = min(FRAME_TRADES, last - self._cursor + 1)
        kind, to, body, _, known = self._feed.frame(channel.filter, self._cursor, self._known, most, FRAME_BYTES)
        if kind == "overrun":
            await self._overrun(to)
            return True
        if kind == "hole":
            await self._write(pb.Frame(gap=gap_of(self._cursor, to, "upstream")))
        elif body is not None:
            await self._write_bytes(body)
            self._known = known
        self._cursor = to + 1
        return kind == "hole" or body is not None

    async def _overrun(self, oldest: int) -> None:
        """The writer has overtaken this one."""
        if self._strict:
            await self._out_of_range(f"sequence {self._cursor} was overwritten before it was read")
        await self._write_start(*await self._place_at_head((self._cursor, "overrun")))

    async def _out_of_range(self, why: str) -> None:
        detail = pb.Range(epoch=self._feed.epoch, oldest=self._feed.oldest, newest=self._feed.head)
        await abort(self._context, grpc.StatusCode.OUT_OF_RANGE, why, detail)

    async def _write_status(self) -> None:
        status = self._service.status(self._feed)
        if status != self._status:
            self._status = status
            source, state, since_ns = status
            await self._write(pb.Frame(status=pb.SourceStatus(source=source, state=state, since_ns=since_ns)))

    async def _write(self, frame: pb.Frame) -> None:
        await self._write_bytes(frame.SerializeToString())

    async def _write_bytes(self, body: bytes) -> None:
        """Hand a message to the transport, and wait until it has taken it.

        Where it has no room for too long, the subscriber does not read.
        """
        service = self._service
        try:
            async with asyncio.timeout(service.stall_s):
                await self._context.write(body)
        except TimeoutError:
            service.figures["evicted"] += 1
            why = f"nothing was read for {service.stall_s:g} s"
            await abort(self._context, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        service.figures["frames"] += 1
        service.figures["bytes"] += len(body)


def filter_of(wanted: Wanted) -> TapeFilter:
    """Return what picks the trades of a subscription."""
    instruments, statuses, stages, why = wanted
    return TapeFilter(
        None if instruments is None else list(instruments),
        None if statuses is None else list(statuses),
        stages=stages,
        why=why,
    )


def gap_of(first: int, last: int, why: str) -> pb.Gap:
    """Return a gap; ``from`` is no name for a keyword argument."""
    return pb.Gap(**{"from": first}, to=last, why=why)


def status_of(raw: bytes) -> tuple[str, str, int]:
    """Return source, state and since when (ns), as a processor's status board has them."""
    try:
        board = msgspec.json.decode(raw) if raw else {}
    except msgspec.MsgspecError:
        board = {}
    source = board.get("source") or {}
    heartbeat_ns = int(board.get("heartbeatNs", 0))
    if heartbeat_ns and time.time_ns() - heartbeat_ns > STALE_NS:
        return str(source.get("url", "")), "stale", heartbeat_ns
    return str(source.get("url", "")), str(source.get("state") or "live"), int(source.get("since", 0))


async def _parsed(parse: Callable[[bytes], Any], request: bytes, context: Context) -> Any:  # noqa: ANN401 (any message)
    try:
        return parse(request)
    except DecodeError:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the request is no such message")


async def _checked(request: pb.SubscribeRequest, context: Context) -> Wanted:
    """Return what a request subscribes to; a wrong one is refused."""
    wrong = ""
    if request.HasField("from_seq") and not 1 <= request.from_seq < 2**63:
        wrong = f"from_seq: must be from 1, was {request.from_seq}"
    elif len(request.instruments) > MOST_INSTRUMENTS:
        wrong = f"instruments: at most {MOST_INSTRUMENTS}, were {len(request.instruments)}; leave it out for all"
    elif unknown := [number for number in request.status if number not in (0, 1, 2)]:
        wrong = f"status: must be 0, 1 or 2, was {unknown[0]}"
    elif request.epoch and not _is_epoch(request.epoch):
        wrong = f"epoch: must be 16 hexadecimal digits, was {request.epoch!r}"
    elif request.mode not in (pb.MODE_UNSPECIFIED, pb.MODE_TAPE):
        wrong = f"mode: must be MODE_TAPE, was {request.mode}"
    elif request.HasField("max_rate_hz") and not 0.01 <= request.max_rate_hz <= 1_000:
        wrong = f"max_rate_hz: must be from 0.01 to 1000, was {request.max_rate_hz:g}"
    if wrong:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, wrong)
    instruments = tuple(sorted(set(request.instruments))) or None
    statuses = tuple(sorted(set(request.status))) or None
    return instruments, statuses, request.stages, request.why


def _is_epoch(text: str) -> bool:
    return len(text) == 16 and all(c in "0123456789abcdef" for c in text)
