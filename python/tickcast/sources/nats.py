"""``nats://``: the extension's client decodes; its batches are awaited by a file descriptor."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from tickcast import urls
from tickcast._core import Batch, JetStreamSource, NatsSource
from tickcast.servers import server_list
from tickcast.sources.base import Position, SourceState

__all__ = ["BrokerSource", "SubjectSource"]

LOOK_S = 1.0
"""How often a quiet client is looked at even without a sign, for an error it may have run into."""

Client = TypeVar("Client", NatsSource, JetStreamSource)


class BrokerSource(ABC, Generic[Client]):
    """What a NATS server sends, as one of the extension's clients brings it. Reconnects by itself, for ever."""

    live = True

    def __init__(self) -> None:
        self._client: Client | None = None
        self._unopened = SourceState.now("reconnecting", "not connected yet")

    @abstractmethod
    def _connect(self, positions: Sequence[Position]) -> Client:
        """Return a client that begins to connect."""

    async def open(self, positions: Sequence[Position]) -> None:
        """Begin to connect; ticks come once the server is there."""
        self._client = self._connect(positions)

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

    def state(self) -> SourceState:
        """Return where the connection stands."""
        if self._client is None:
            return self._unopened
        return SourceState(*self._client.state())

    @property
    def lost(self) -> int:
        """Messages that core NATS dropped, or that the stream's limits had removed before they were read."""
        return self._client.lost if self._client is not None else 0

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    @property
    def _opened(self) -> Client:
        if self._client is None:
            raise RuntimeError("the source has not been opened")
        return self._client


class SubjectSource(BrokerSource[NatsSource]):
    """A core NATS subject: what was published while nobody listened is gone.

    Args:
        url: The subject.
        volume_scale: Volumes are multiplied by this power of ten.
        scales: Scales of single instruments.
    """

    positioned = False

    def __init__(self, url: urls.Nats, volume_scale: int, scales: dict[str, int]) -> None:
        super().__init__()
        self._url, self._volume_scale, self._scales = url, volume_scale, scales

    def _connect(self, positions: Sequence[Position]) -> NatsSource:
        url = self._url
        return NatsSource(
            server_list(url.server),
            url.subject,
            format=url.format,
            volume_scale=self._volume_scale,
            instrument_scales=self._scales,
        )

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Do nothing: a subject can't be read again."""
