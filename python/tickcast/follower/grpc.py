"""``grpc://``: follows the tape of another tickcast, sequence by sequence, with the same epoch.

After a lost link it goes on with the next sequence. Only where the other tape no longer has that one is there a hole,
and then as small as can be: what the other tape still has is fetched from its oldest end on.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from tickcast._core import FrameNames, TapeWriter
from tickcast.errors import LinkLostError, LinkRefusedError, SourceError
from tickcast.follower.base import Counts, Known, Start, Trades
from tickcast.processor.control import JudgeAwayError
from tickcast.retry import Limits, Reconnect
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.link import AgedOutError, TapeLink, Target
from tickcast.sources.base import SourceState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["GrpcTrades"]

log = logging.getLogger("tickcast.follower")

_MARGIN = 16
"""What the other tape is about to overwrite (a sixteenth of it) is not asked for: it would be gone by then."""


class FrameOfTrades:
    """A frame on its way to the tape."""

    def __init__(self, names: FrameNames, frame: bytes, why: bytes) -> None:
        self._names = names
        self._frame = frame
        self._why = why

    def write(self, tape: TapeWriter) -> Counts | None:
        """Put its trades on the tape."""
        return tape.follow(self._names, self._frame, self._why)


class Hole:
    """Sequences that can't be had."""

    def __init__(self, to: int) -> None:
        self._to = to

    def write(self, tape: TapeWriter) -> Counts | None:
        """Leave the hole on the tape."""
        return (0, 0, 0) if tape.skip(self._to) else None


class GrpcTrades:
    """The trades of a remote processor."""

    def __init__(self, target: Target, limits: Limits | None = None) -> None:
        self._target = target
        self._reconnect = Reconnect(limits)
        self._epoch: int | None = None
        self._next_seq = 1
        self._lost = 0
        self._state = SourceState.now("reconnecting", "not connected yet")
        self._anew = True
        self._link: TapeLink | None = None
        self._items: AsyncGenerator[Start | Trades, None] | None = None

    async def open(self, known: Known | None) -> None:
        """Prepare to go on right after what the tape has."""
        if known is not None:
            self._epoch, self._next_seq, self._anew = known.epoch, known.head + 1, False
            self._state = SourceState.now("stale", "not connected yet")
        self._items = self._follow()

    async def next(self) -> Start | Trades | None:
        """Wait for what comes next.

        Raises:
            SourceError: The server refuses.
        """
        if self._items is None:
            raise RuntimeError("the source has not been opened")
        return await anext(self._items, None)

    async def judge(self, payload: bytes) -> list[str]:
        """Have a client's tick judged by the processor that is followed.

        Raises:
            JudgeAwayError: The link is down, or the processor does not answer.
        """
        if self._link is None:
            raise JudgeAwayError(f"the processor at {self._target.address} can't be reached; try again")
        try:
            return list((await self._link.judge(pb.JudgeRequest(tick=payload))).trades)
        except (LinkLostError, LinkRefusedError) as error:
            raise JudgeAwayError(str(error)) from None

    def state(self) -> SourceState:
        """Return where the link stands; while it does, what feeds the other processor."""
        return self._state

    @property
    def breaker(self) -> str:
        """The circuit breaker: ``closed``, ``open`` or ``half-open``."""
        return self._reconnect.state

    @property
    def lost(self) -> int:
        """Trades that the other tape no longer had."""
        return self._lost

    async def close(self) -> None:
        """Disconnect."""
        if self._items is not None:
            await self._items.aclose()

    async def _follow(self) -> AsyncGenerator[Start | Trades, None]:
        while True:
            try:
                async with TapeLink(self._target) as self._link, aclosing(self._session(self._link)) as items:
                    async for item in items:
                        yield item
            except AgedOutError as error:
                log.warning("%s", error)
                self._anew = True
                await self._wait(LinkLostError(str(error)))
            except LinkRefusedError as error:
                raise SourceError(f"source: {error}") from None
            except LinkLostError as error:
                await self._wait(error)

    async def _session(self, link: TapeLink) -> AsyncGenerator[Start | Trades, None]:
        """Yield what one connection brings, from the place found out first."""
        if self._anew:
            yield await self._start_anew(link)
            self._anew = False
        async with aclosing(self._connection(link)) as items:
            async for item in items:
                yield item

    async def _wait(self, error: LinkLostError) -> None:
        self._link = None
        self._reconnect.failed()
        stale_since = self._state.since if self._state.state == "stale" else None
        detail = f"{error}; trying again (breaker {self._reconnect.state})"
        self._state = SourceState.now("stale", detail)
        if stale_since is not None:
            self._state = SourceState("stale", stale_since, detail)
        else:
            log.warning("the link to %s is down: %s", self._target.address, error)
        await self._reconnect.pause(error.retry_s)

    async def _start_anew(self, link: TapeLink) -> Start:
        """Find the place from which to read a tape of which nothing, or nothing that joins, is there."""
        taken = await link.snapshot(pb.SnapshotRequest())
        hello = taken.hello
        epoch = int(hello.epoch, 16)
        from_seq = hello.oldest
        if hello.oldest > 1:
            from_seq += (hello.seq - hello.oldest) // _MARGIN
        same = epoch == self._epoch
        # The end of the other tape may have been lost with its machine: what is here then is of another life.
        fresh = same and self._next_seq > hello.seq + 1
        if same and not fresh:
            from_seq = max(from_seq, self._next_seq)
            self._lost += from_seq - self._next_seq
        self._epoch, self._next_seq = epoch, from_seq
        names = FrameNames(list(hello.instruments), list(hello.reasons))
        return start_of(hello, from_seq, fresh=fresh, snapshot=(names, taken.snapshot))

    async def _connection(self, link: TapeLink) -> AsyncGenerator[Start | Trades, None]:
        """Yield what comes from the place on."""
        request = pb.SubscribeRequest(
            from_seq=self._next_seq, epoch=self._epoch_text, strict=True, snapshot=False, stages=True, why=True
        )
        names = FrameNames([], [])
        async with aclosing(link.frames(request)) as frames:
            async for frame in frames:
                match frame.WhichOneof("content"):
                    case "hello":
                        names = FrameNames(list(frame.hello.instruments), list(frame.hello.reasons))
                        if frame.hello.epoch != self._epoch_text:
                            self._epoch, self._next_seq = int(frame.hello.epoch, 16), 1
                        yield start_of(frame.hello, self._next_seq)
                    case "status":
                        self._reconnect.worked()
                        self._state = SourceState(frame.status.state, frame.status.since_ns, frame.status.source)
                    case "trades":
                        yield FrameOfTrades(names, frame.trades, frame.why)
                        self._next_seq = covered_to(frame.trades) + 1
                    case "gap":
                        self._lost += frame.gap.to - self._next_seq + 1
                        yield Hole(frame.gap.to)
                        self._next_seq = frame.gap.to + 1

    @property
    def _epoch_text(self) -> str:
        return "" if self._epoch is None else f"{self._epoch:016x}"


def start_of(
    hello: pb.Hello, from_seq: int, *, fresh: bool = False, snapshot: tuple[FrameNames, bytes] | None = None
) -> Start:
    """Return what the tape has to be like."""
    return Start(
        epoch=int(hello.epoch, 16),
        enrichments=tuple((e.name, e.unit) for e in hello.enrichments),
        from_seq=from_seq,
        fresh=fresh,
        rules=tuple(hello.rules),
        rule_sets=tuple(hello.rule_sets),
        rule_set=hello.rule_set,
        volume_scale=dict(hello.volume_scales) or hello.volume_scale or None,
        snapshot=snapshot,
    )


def covered_to(frame: bytes) -> int:
    """Return the last sequence that a binary frame covers."""
    return int.from_bytes(frame[16:24], "little")
