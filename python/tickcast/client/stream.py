"""A subscription: one connection after the other, and what has been seen."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from tickcast.client.messages import Connection, Frame, Granted, Heartbeat, Hello, Wish
from tickcast.client.types import STATUS_NAMES, Batch, Event, Gap, Lost, Mode, Place, Snapshot, Status, Trade
from tickcast.errors import ConfigError, LinkLostError
from tickcast.retry import Limits, Reconnect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

__all__ = ["Subscription", "subscribe"]

SLOWEST_HZ = 0.1
FASTEST_HZ = 1_000.0
log = logging.getLogger("tickcast.client")


def subscribe(
    url: str,
    instruments: Iterable[str] | None = None,
    *,
    status: Iterable[str] | str | None = None,
    place: Place | None = None,
    from_seq: int | None = None,
    snapshot: bool = False,
    mode: Mode = "tape",
    max_rate_hz: float | None = None,
    token: str | None = None,
    limits: Limits | None = None,
) -> Subscription:
    """Subscribe to the trades of a running tickcast.

    Args:
        url: ``ws://``, ``wss://``, ``http://``, ``https://`` of a gateway, or ``grpc://host:port`` of a processor (its
            parameters are those of the source ``grpc://``).
        instruments: Only these; None: all.
        status: Only these of VALID, INVALID and UNKNOWN; None: all.
        place: Go on here: the `Subscription.place` of an earlier one.
        from_seq: First sequence wanted, of the present epoch; None and no `place`: live from now on.
        snapshot: Begin with the newest VALID trade of each instrument; comes as `Snapshot` among the events.
        mode: ``tape``: every trade. ``latest``: of each instrument the newest since the last frame; `Batch.conflated`
            says how many were left out for newer ones.
        max_rate_hz: At most so many frames a second, from 0.1 to 1,000; None: as they come.
        token: Bearer token, where the server asks for one.
        limits: How patiently to reconnect.

    Raises:
        ConfigError: The URL, a status, a sequence, the mode or the rate is wrong.
    """
    if mode not in ("tape", "latest"):
        raise ConfigError(f"mode: must be 'tape' or 'latest', was {mode!r}")
    if max_rate_hz is not None and not SLOWEST_HZ <= max_rate_hz <= FASTEST_HZ:
        raise ConfigError(f"max_rate_hz: must be from {SLOWEST_HZ:g} to {FASTEST_HZ:g}, was {max_rate_hz!r}")
    statuses = None if status is None else ((status,) if isinstance(status, str) else tuple(status))
    for name in statuses or ():
        if name not in STATUS_NAMES:
            raise ConfigError(f"status: must be VALID, INVALID or UNKNOWN, was {name!r}")
    if from_seq is not None:
        if place is not None or from_seq < 1:
            raise ConfigError(f"from_seq: must be from 1, and not given together with place; was {from_seq}")
        place = Place(epoch="", next_seq=from_seq)
    if isinstance(instruments, str):
        raise ConfigError(f"instruments: must be several, such as [{instruments!r}], was {instruments!r}")
    wish = Wish(
        instruments=None if instruments is None else tuple(instruments),
        statuses=statuses,
        snapshot=snapshot,
        latest=mode == "latest",
        max_rate_hz=max_rate_hz,
    )
    return Subscription(connection_of(url, token), wish, place, limits)


def connection_of(url: str, token: str | None) -> Connection:
    """Return the way to the server that a URL names.

    Raises:
        ConfigError: The URL is wrong.
    """
    if url.startswith("grpc:"):
        from tickcast import urls  # noqa: PLC0415
        from tickcast.client.grpc import Processor  # noqa: PLC0415 (grpc takes its time to import)
        from tickcast.rpc.link import target_of  # noqa: PLC0415

        parsed = urls.parse_source(url)
        assert isinstance(parsed, urls.Grpc)
        return Processor(target_of(parsed, token))
    from tickcast.client.ws import Gateway  # noqa: PLC0415

    return Gateway(url, token)


class Subscription:
    """Trades, for ever: connects when it is iterated, reconnects by itself, and takes up where it was.

    Iterate it once, in one of its forms. Trades come exactly once; what can't be had any more is a gap, never silent:
    an event in `events` and `batches`, a warning in the log and an entry of `gaps` in any case.
    """

    def __init__(
        self, connection: Connection, wish: Wish, place: Place | None = None, limits: Limits | None = None
    ) -> None:
        self._connection = connection
        self._wish = wish
        self._place = place
        self._epoch = ""
        self._reconnect = Reconnect(limits)
        self.gaps: list[Gap] = []
        """Gaps so far, the newest thousand."""

    @property
    def place(self) -> Place | None:
        """Right behind what was yielded last: the resume token for `subscribe`. None: not connected yet."""
        return self._place

    def __aiter__(self) -> AsyncIterator[Trade]:
        return self.trades()

    async def trades(self) -> AsyncGenerator[Trade, None]:
        """Yield trades one by one.

        Raises:
            LinkLostError: The first connection can't be made.
            LinkRefusedError: The server says not to come back.
        """
        async with aclosing(self.batches()) as batches:
            async for item in batches:
                if isinstance(item, Batch):
                    for trade in self._one_by_one(item):
                        yield trade

    async def batches(self) -> AsyncGenerator[Batch | Gap, None]:
        """Yield trades in batches of columns, as they come in frames, and gaps. Raises what `trades` does."""
        async with aclosing(self.frames()) as items:
            async for item in items:
                if isinstance(item, Batch | Gap):
                    yield item

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield trades one by one, and all that happens between them. Raises what `trades` does."""
        async with aclosing(self.frames()) as items:
            async for item in items:
                if isinstance(item, Batch):
                    for trade in self._one_by_one(item):
                        yield trade
                else:
                    yield item

    def _one_by_one(self, batch: Batch) -> Iterator[Trade]:
        """Iterate over trades, with the place right behind each."""
        for trade in batch.trades():
            self._seen(trade.seq)
            yield trade
        self._seen(batch.last_seq)

    async def frames(self) -> AsyncGenerator[Batch | Gap | Status | Snapshot | Lost, None]:
        """Yield trades in batches of columns, and all that happens between them. Raises what `trades` does."""
        connected = False
        while True:
            try:
                async with aclosing(self._connection.messages(self._wish, self._place)) as messages:
                    async for message in messages:
                        connected = True
                        match message:
                            case Hello(epoch):
                                self._epoch = epoch
                            case Granted(from_seq):
                                # Live, and nothing has come yet: lost now, it goes on from here all the same.
                                self._place = self._place or Place(epoch=self._epoch, next_seq=from_seq)
                            case Frame(batch, snapshot):
                                self._reconnect.worked()
                                self._seen(batch.last_seq)
                                yield Snapshot(batch=batch) if snapshot else batch
                            case Gap():
                                self._note(message)
                                self._seen(message.last)
                                yield message
                            case Heartbeat(seq):
                                self._reconnect.worked()
                                self._seen(seq)
                            case Status():
                                yield message
            except LinkLostError as error:
                if not connected:
                    raise
                log.info("connection lost: %s", error)
                yield Lost(why=str(error))
                self._reconnect.failed()
                await self._reconnect.pause(error.retry_s)

    def _seen(self, last: int) -> None:
        self._place = Place(epoch=self._epoch, next_seq=last + 1)

    def _note(self, gap: Gap) -> None:
        log.warning("gap: %d to %d (%s)", gap.first, gap.last, gap.why)
        self.gaps.append(gap)
        del self.gaps[:-1_000]
