"""``nats://`` and ``jetstream://``: the extension's client decodes; its batches are awaited by a file descriptor."""

import asyncio
from collections.abc import Sequence

from tickcast import urls
from tickcast._core import Batch, JetStreamSource, NatsSource
from tickcast.servers import server_list
from tickcast.sources.base import Lag, Position, SourceState

__all__ = ["BrokerSource"]

LOOK_S = 1.0
"""How often a quiet client is looked at even without a sign, for an error it may have run into."""


class BrokerSource:
    """A NATS subject, or a JetStream stream read on from the tape's position. Reconnects by itself, for ever."""

    live = True

    def __init__(self, url: urls.Nats | urls.JetStream, volume_scale: int, scales: dict[str, int]) -> None:
        self._url = url
        self._volume_scale, self._scales = volume_scale, scales
        self._client: NatsSource | JetStreamSource | None = None
        self._state = SourceState.now("reconnecting", "not connected yet")

    @property
    def positioned(self) -> bool:
        """Only a stream can be read again."""
        return isinstance(self._url, urls.JetStream)

    async def open(self, positions: Sequence[Position]) -> None:
        """Begin to connect; trades come once the server is there."""
        url, servers = self._url, server_list(self._url.server)
        if isinstance(url, urls.JetStream):
            self._client = JetStreamSource(
                servers,
                url.subject,
                stream=url.stream,
                durable=url.durable,
                positions=list(positions),
                format=url.format,
                volume_scale=self._volume_scale,
                instrument_scales=self._scales,
            )
        else:
            self._client = NatsSource(
                servers,
                url.subject,
                format=url.format,
                volume_scale=self._volume_scale,
                instrument_scales=self._scales,
            )

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for messages and return what has come.

        Raises:
            SourceError: The server refuses, and trying again would not help.
        """
        client = self._opened
        loop = asyncio.get_running_loop()
        while (batch := client.poll(max_rows)) is None:
            news = asyncio.Event()
            # The descriptor stays readable until it is polled: it may be watched only while somebody waits.
            loop.add_reader(client.fileno(), news.set)
            try:
                async with asyncio.timeout(LOOK_S):
                    await news.wait()
            except TimeoutError:
                continue
            finally:
                loop.remove_reader(client.fileno())
        return batch

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Keep the position in the server, for a processor that has no tape."""
        if isinstance(self._client, JetStreamSource):
            self._client.save_position(position[2], position[3], lowest)

    def state(self) -> SourceState:
        """Return where the connection stands."""
        if self._client is None:
            return self._state
        return SourceState(*self._client.state())

    def lags(self) -> list[Lag]:
        """Return how many messages the stream has behind the last one that came. Core NATS keeps none."""
        if not isinstance(self._client, JetStreamSource):
            return []
        meters = self._client.meters()
        pending = int(meters["pending"]) if meters["last_arrival_ns"] else None
        name = self._url.stream if isinstance(self._url, urls.JetStream) else None
        return [Lag(name or self._url.subject, pending)]

    @property
    def lost(self) -> int:
        """Messages that core NATS dropped, or that the stream's limits had removed before they were read."""
        return self._client.lost if self._client is not None else 0

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    @property
    def _opened(self) -> NatsSource | JetStreamSource:
        if self._client is None:
            raise RuntimeError("the source has not been opened")
        return self._client
