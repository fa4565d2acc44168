"""``tickcast.v1.Tape``: the tape to gRPC subscribers.

One task looks at the tape some 40 times a second and makes one frame for each distinct subscription (fewer for one with
a rate of its own); all its streams send the very same bytes. A stream is a place on the tape and nothing else: one that
has fallen behind the common frames gets some of its own until it has caught up. In mode latest both are made from the
same board as those of the gateways' pump. What a subscriber does not read stays on the tape: ``write`` waits for the
transport's flow control, and one that stands still for too long is let go.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from tickcast._core import TapeFeed, __version__
from tickcast.boards import board_of
from tickcast.errors import TapeError
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.channel import FRAMES_PER_S, Channel, Look, Place, Wanted, filter_of, look_at, most_known
from tickcast.rpc.status import abort, retry_later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["SERVICE", "TapeService"]

SERVICE = "tickcast.v1.Tape"
COHORT = 50
"""Most streams that get their frames at the same moment: more would wait for one another."""
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
        self._channels: dict[tuple[Wanted, int], Channel] = {}
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
        wanted = filter_of(Wanted(instruments=tuple(asked.instruments) or None))
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

    def join(self, wanted: Wanted, feed: TapeFeed) -> Channel:
        """Return a channel of a subscription with room for one more; a new one begins at the head. `leave` it."""
        number = 0
        while (channel := self._channels.get((wanted, number))) is not None and channel.streams >= COHORT:
            number += 1
        if channel is None:
            if wanted.latest and not self._is_anyone_conflating():
                feed.begin_board()
            known = (len(feed.instruments()), len(feed.reasons()))
            place = Place(covered=feed.head, next_seq=feed.head + 1, known=known)
            channel = self._channels[wanted, number] = Channel(wanted, number, place, 0.0)
            # The cohorts' moments are spread over the pause between frames, however many come and go.
            channel.due = asyncio.get_running_loop().time() + number * _GOLDEN % 1 * channel.pause_s
        channel.streams += 1
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make())
        return channel

    def _is_anyone_conflating(self) -> bool:
        return any(wanted.latest for wanted, _ in self._channels)

    def leave(self, channel: Channel) -> None:
        """Forget a channel that nobody uses any more."""
        channel.streams -= 1
        key = (channel.wanted, channel.number)
        if channel.streams == 0 and self._channels.get(key) is channel:
            del self._channels[key]

    def hello(self, feed: TapeFeed) -> pb.Hello:
        """Return what the tape announces."""
        scale = board_of(feed.board()).get("volumeScale", 0)
        otherwise, scales = (1, scale) if isinstance(scale, dict) else (scale, {})
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
            volume_scale=otherwise,
            volume_scales=scales,
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
            if feed is not None:
                self._take_turns(feed, clock())
            next_due = min((channel.due for channel in self._channels.values()), default=0.0)
            # Whoever joins meanwhile is due within the pause between two frames.
            await asyncio.sleep(min(max(0.001, next_due - clock()), 1 / FRAMES_PER_S))

    def _take_turns(self, feed: TapeFeed, now: float) -> None:
        head = feed.advance_board() if self._is_anyone_conflating() else feed.head
        for channel in list(self._channels.values()):
            if channel.due <= now:
                channel.turn(feed, head, now, self.heartbeat_s / 2)

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
        self._place = Place(covered=0, next_seq=1, known=(0, 0))
        self._turn = 0
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
        self._place = Place(covered=0, next_seq=1, known=(len(hello.instruments), len(hello.reasons)))
        self._status = None
        await self._write(pb.Frame(hello=hello))
        gap, snapshot = await self._start(hello.epoch)
        mode = pb.MODE_LATEST if self._wanted.latest else pb.MODE_TAPE
        subscribed = pb.Subscribed(from_seq=self._place.next_seq, snapshot=snapshot is not None, mode=mode)
        await self._write(pb.Frame(subscribed=subscribed))
        await self._write_status()
        await self._write_start(gap, snapshot)

    async def _start(self, epoch: str) -> tuple[pb.Gap | None, bytes | None]:
        """Take its place; return what has to be said before."""
        if self._resume is None:
            return await self._start_at_head(None)
        (wanted, of_epoch), oldest, head = self._resume, self._feed.oldest, self._feed.head
        here = of_epoch in ("", epoch)
        if here and oldest <= wanted <= head + 1:
            self._stand_behind(wanted - 1)
            return None, None
        if self._strict:
            what = f"sequence {wanted} of epoch {of_epoch or epoch}"
            await self._out_of_range(f"{what} can't be had: epoch {epoch} has {oldest} to {head}")
        return await self._start_at_head((wanted, "overrun") if here and wanted < oldest else (1, "epoch"))

    async def _start_at_head(self, missed: tuple[int, str] | None) -> tuple[pb.Gap | None, bytes | None]:
        snapshot, to = None, self._feed.head
        if self._snapshot:
            taken = await asyncio.to_thread(self._feed.snapshot, filter_of(self._wanted), self._place.known)
            snapshot, to, self._place.known = taken
        self._stand_behind(to)
        gap = None if missed is None or missed[0] > to else gap_of(missed[0], to, missed[1])
        return gap, snapshot

    def _stand_behind(self, seq: int) -> None:
        """Everything up to here was told."""
        self._place.covered, self._place.next_seq, self._place.mark = seq, seq + 1, None

    async def _write_start(self, gap: pb.Gap | None, snapshot: bytes | None) -> None:
        if gap is not None:
            await self._write(pb.Frame(gap=gap))
        if snapshot is not None:
            await self._write(pb.Frame(snapshot=snapshot))

    async def _follow(self, channel: Channel) -> None:
        """Send trades until another tape takes this one's place, or the server drains."""
        clock = asyncio.get_running_loop().time
        beat_at, look_at = clock() + self._service.heartbeat_s, clock() + LOOK_S
        self._turn = channel.turns - 1
        while not self._service.draining.is_set():
            if clock() >= look_at:
                look_at = clock() + LOOK_S
                await self._write_status()
                if self._feed.superseded():
                    await self._send_rest(channel)
                    return
            if await self._send_next(channel):
                beat_at = clock() + self._service.heartbeat_s
                continue
            wait_until = min(beat_at, look_at)
            if self._place.covered < channel.place.covered:
                wait_until = min(wait_until, channel.due)
            await channel.news(max(0.0, wait_until - clock()))
            if clock() >= beat_at:
                beat_at = clock() + self._service.heartbeat_s
                await self._write(pb.Frame(heartbeat=pb.Heartbeat(seq=self._place.covered)))

    async def _send_next(self, channel: Channel) -> bool:
        """Send what comes next; False: there is nothing, or not before the channel's next turn."""
        place = self._place
        if self._wanted.pause_s and self._turn == channel.turns:
            return False
        if (shared := channel.next_for(place)) is not None:
            self._turn = channel.turns
            await self._write_bytes(shared.body)
            place.covered, place.next_seq = shared.to_seq, shared.to_seq + 1
            place.known, place.mark = most_known(place.known, shared.known), shared.mark
            return True
        if place.covered >= channel.place.covered:
            return False
        # Up to where the channel is: from there on the frames are common again.
        look = look_at(self._feed, channel.filter, self._wanted, place, channel.place.covered)
        if look.kind == "frame" and look.to < place.next_seq:
            return False
        self._turn = channel.turns
        await self._send_own(look)
        return True

    async def _send_rest(self, channel: Channel) -> None:
        """Send what is left of a tape that another has taken the place of; nobody makes common frames of it."""
        self._place.mark = None
        while self._place.next_seq <= self._feed.head:
            look = look_at(self._feed, channel.filter, self._wanted, self._place, self._feed.head)
            if look.kind == "frame" and look.to < self._place.next_seq:
                return
            await self._send_own(look)

    async def _send_own(self, look: Look) -> None:
        place, first = self._place, self._place.covered + 1
        if look.kind == "overrun":
            await self._overrun(look.to)
        elif look.kind == "hole":
            self._stand_behind(look.to)
            await self._write(pb.Frame(gap=gap_of(first, look.to, "upstream")))
        elif look.body is not None:
            self._stand_behind(look.to)
            place.known, place.mark = look.known, look.mark
            await self._write_bytes(look.body)
        else:
            self._stand_behind(look.to)
            place.mark = look.mark
            await self._write(pb.Frame(heartbeat=pb.Heartbeat(seq=look.to)))

    async def _overrun(self, oldest: int) -> None:
        """The writer has overtaken this one."""
        if self._strict:
            await self._out_of_range(f"sequence {self._place.next_seq} was overwritten before it was read")
        await self._write_start(*await self._start_at_head((self._place.covered + 1, "overrun")))

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


def gap_of(first: int, last: int, why: str) -> pb.Gap:
    """Return a gap; ``from`` is no name for a keyword argument."""
    return pb.Gap(**{"from": first}, to=last, why=why)


def status_of(raw: bytes) -> tuple[str, str, int]:
    """Return source, state and since when (ns), as a processor's status board has them."""
    board = board_of(raw)
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
    elif request.mode not in (pb.MODE_UNSPECIFIED, pb.MODE_TAPE, pb.MODE_LATEST):
        wrong = f"mode: must be MODE_TAPE or MODE_LATEST, was {request.mode}"
    elif request.HasField("max_rate_hz") and not 0.01 <= request.max_rate_hz <= 1_000:
        wrong = f"max_rate_hz: must be from 0.01 to 1000, was {request.max_rate_hz:g}"
    if wrong:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, wrong)
    return Wanted(
        instruments=tuple(sorted(set(request.instruments))) or None,
        statuses=tuple(sorted(set(request.status))) or None,
        stages=request.stages,
        why=request.why,
        latest=request.mode == pb.MODE_LATEST,
        pause_s=1 / request.max_rate_hz if request.HasField("max_rate_hz") else 0.0,
    )


def _is_epoch(text: str) -> bool:
    return len(text) == 16 and all(c in "0123456789abcdef" for c in text)
