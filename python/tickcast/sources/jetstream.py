"""``jetstream://``: a stream read on from the tape's position, or from one that was saved for another processor.

Where that one has been further, the stream is read from behind the tape, silently up to the saved position. Without a
tape, and where the tape does not reach as far back as the windows do, it is read from the lowest message that a window
held. What those ticks were judged is taken from the tape, and from the stream of judged trades.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tickcast import urls
from tickcast._core import Batch, EarlierVerdicts, JetStreamSource
from tickcast.errors import SourceError
from tickcast.servers import server_list
from tickcast.sources.base import VERDICT_MARGIN_MS, VERDICT_PATIENCE_S, Lag, Position, SourceState
from tickcast.sources.nats import BrokerSource

__all__ = ["StreamSource"]

log = logging.getLogger("tickcast.nats")

TAKE, WAIT_S = 10_000, 0.1
PARTITION = 0
"""A stream has no others."""


class StreamSource(BrokerSource[JetStreamSource]):
    """A JetStream stream.

    Args:
        url: The stream.
        reach_ns: How far back windows and rules need ticks, ns.
        validated: Where its judged trades go; None: nowhere that they could be read again.
        volume_scale: Volumes are multiplied by this power of ten.
        scales: Scales of single instruments.
    """

    positioned = True

    def __init__(
        self,
        url: urls.JetStream,
        reach_ns: int,
        validated: urls.JetStreamSink | None,
        volume_scale: int,
        scales: dict[str, int],
    ) -> None:
        super().__init__()
        self._url, self._reach_ns, self._validated = url, reach_ns, validated
        self._volume_scale, self._scales = volume_scale, scales
        self.earlier = EarlierVerdicts()
        self._has_come = self._has_looked = self._has_begun = False
        self._closing = threading.Event()
        self._first: list[Position] = []
        self._begin: Callable[[int, int, bool], Awaitable[None]] | None = None

    def attach_tape(self, first: Sequence[Position], begin: Callable[[int, int, bool], Awaitable[None]]) -> None:
        """Learn what the windows were filled with, and whom to tell; see `RereadSource.attach_tape`."""
        self._first, self._begin = list(first), begin

    def _connect(self, positions: Sequence[Position]) -> JetStreamSource:
        url = self._url
        return JetStreamSource(
            server_list(url.server),
            url.subject,
            stream=url.stream,
            durable=url.durable,
            positions=list(positions),
            format=url.format,
            volume_scale=self._volume_scale,
            instrument_scales=self._scales,
            at_hand=(self._first, self._reach_ns),
        )

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for messages and return what has come; see to it that verdicts on silent ones are known.

        Raises:
            SourceError: The server refuses, and trying again would not help.
        """
        batch = await super().next(max_rows)
        if batch is None or self._has_begun:
            return batch
        stream = batch.last_positions[0][0]
        if not self._has_come:
            self._has_come = True
            if self._begin is not None:
                await self._begin(stream, PARTITION, self._opened.begins_anew)
        if not batch.silent:
            self._has_begun = True
            self.earlier.forget(stream, PARTITION)
        elif self._validated is not None and not self._has_looked and self.earlier.lacks(batch):
            self._has_looked = True
            await asyncio.to_thread(self._learn, self._validated, stream, batch.broker_ns)
        return batch

    def _learn(self, validated: urls.JetStreamSink, stream: int, since_ns: int) -> None:
        """Learn what the ticks of a stream were judged that are stored since then.

        Blocks, for `VERDICT_PATIENCE_S` at most. A server that does not answer, or refuses, is no error: the ticks are
        judged again then.
        """
        client = JetStreamSource(
            server_list(validated.server),
            validated.subject,
            stream=validated.stream,
            since_ns=max(0, since_ns - VERDICT_MARGIN_MS * 1_000_000),
            format=validated.format,
            trades=True,
        )
        deadline, messages, trades = time.monotonic() + VERDICT_PATIENCE_S, 0, 0
        try:
            while (waiting := client.waiting) is None or messages < waiting:
                if self._closing.is_set():
                    return
                if time.monotonic() > deadline:
                    log.warning("ticks are judged again: %s is not read within %g s", client.url, VERDICT_PATIENCE_S)
                    return
                if (found := client.poll_trades(TAKE)) is None:
                    client.wait(WAIT_S)
                    continue
                self.earlier.learn(found, stream, [PARTITION])
                messages, trades = messages + found.messages, trades + found.rows
            log.info("%s trades of %s read for the verdicts", trades, client.url)
        except SourceError as error:
            log.warning("ticks are judged again: %s", error)
        finally:
            client.close()

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Keep the position in the server, for a processor that has no tape."""
        if self._client is not None:
            self._client.save_position(position[0], position[2], position[3], lowest)

    @property
    def save_trouble(self) -> str | None:
        """Why the position could not be kept in the server lately; None: it was, or there is none to be kept."""
        return self._client.save_trouble if self._client is not None else None

    def state(self) -> SourceState:
        """Return where the connection stands, and what keeps the position from being kept."""
        state, trouble = super().state(), self.save_trouble
        return msgspec.structs.replace(state, detail=f"{state.detail}; {trouble}") if trouble else state

    def lags(self) -> list[Lag]:
        """Return how many messages the stream has behind the last one that came."""
        client = self._client
        known = client is not None and client.waiting is not None
        return [Lag(self._url.stream or self._url.subject, client.meters()["pending"] if client and known else None)]

    async def close(self) -> None:
        """Disconnect."""
        self._closing.set()
        await super().close()
