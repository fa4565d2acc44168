"""A processor's ``tickcast.v1.Tape``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from tickcast._core import FrameNames
from tickcast.client.messages import Frame, Granted, Heartbeat, Hello, Message, Wish, batch_of_columns
from tickcast.client.types import STATUS_NAMES, Gap, Place, Status
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.link import TapeLink, Target

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Processor"]


class Processor:
    """A processor's gRPC server."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def messages(self, wish: Wish, place: Place | None) -> AsyncGenerator[Message, None]:
        """Yield the messages of one connection until it is lost."""
        request = pb.SubscribeRequest(instruments=wish.instruments or (), snapshot=wish.snapshot)
        request.status.extend(STATUS_NAMES.index(name) for name in wish.statuses or ())  # type: ignore[misc]
        if wish.latest:
            request.mode = pb.MODE_LATEST
        if wish.max_rate_hz is not None:
            request.max_rate_hz = wish.max_rate_hz
        if place is not None:
            request.from_seq, request.epoch = place.next_seq, place.epoch
        names, enrichments = FrameNames([], []), list[str]()
        async with TapeLink(self._target) as link, aclosing(link.frames(request)) as frames:
            async for frame in frames:
                match frame.WhichOneof("content"):
                    case "hello":
                        names = FrameNames(list(frame.hello.instruments), list(frame.hello.reasons))
                        enrichments = [e.name for e in frame.hello.enrichments]
                        yield Hello(frame.hello.epoch, frame.hello.seq)
                    case "subscribed":
                        yield Granted(frame.subscribed.from_seq)
                    case "trades":
                        yield Frame(batch_of_columns(names.columns(frame.trades), enrichments))
                    case "snapshot":
                        yield Frame(batch_of_columns(names.columns(frame.snapshot), enrichments), snapshot=True)
                    case "gap":
                        yield Gap(first=getattr(frame.gap, "from"), last=frame.gap.to, why=frame.gap.why)
                    case "status":
                        said = frame.status
                        yield Status(source=said.source, state=said.state, since_ns=said.since_ns)
                    case "heartbeat":
                        yield Heartbeat(frame.heartbeat.seq)
