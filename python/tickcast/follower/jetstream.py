"""``jetstream://`` as a source of judged trades: a subject of a stream, read on from the tape's position."""

import asyncio
from collections import deque

from tickcast import urls
from tickcast._core import JetStreamSource, TopicTrades
from tickcast.follower.base import Known, Start, Trades
from tickcast.follower.topic import Topic, no_judge
from tickcast.servers import server_list
from tickcast.sources.base import SourceState

__all__ = ["JetStreamTrades"]

MAX_ROWS = 8192
LOOK_S = 1.0
"""How often a wait is interrupted: an empty stream gets its tape nevertheless, so that clients can come."""


class JetStreamTrades:
    """The judged trades of a stream. Reconnects by itself, for ever."""

    def __init__(self, url: urls.JetStream) -> None:
        self._url = url
        self._client: JetStreamSource | None = None
        self._topic = Topic(url.subject, None)
        self._was_there = False
        self._items: deque[Start | Trades] = deque()

    async def open(self, known: Known | None) -> None:
        """Prepare to go on right after what the tape has."""
        url = self._url
        self._client = JetStreamSource(
            server_list(url.server),
            url.subject,
            stream=url.stream,
            positions=list(known.positions) if known is not None else [],
            format=url.format,
            trades=True,
        )
        self._was_there = known is not None
        self._topic = Topic(self._client.url, known)

    async def next(self) -> Start | Trades | None:
        """Wait for what comes next.

        Raises:
            SourceError: The server refuses.
        """
        while not self._items:
            trades = await self._poll(self._opened)
            if trades is not None:
                self._items.extend(self._topic.take(trades))
            elif not self._topic.has_tape and self.state().state == "live":
                self._items.append(self._topic.start())
        return self._items.popleft()

    async def judge(self, payload: bytes) -> list[str]:
        """Refuse: there is no processor behind a stream.

        Raises:
            JudgeAwayError: Always.
        """
        raise no_judge(self._opened.url)

    def state(self) -> SourceState:
        """Return where the connection stands."""
        if self._client is None:
            return SourceState.now("reconnecting", "not connected yet")
        state, since, detail = self._client.state()
        self._was_there = self._was_there or state == "live"
        # What is on the tape is shown meanwhile: it is stale.
        return SourceState("stale" if state == "reconnecting" and self._was_there else state, since, detail)

    @property
    def lost(self) -> int:
        """Messages that the stream's limits had removed before they were read, or that held no trades."""
        return (self._client.lost if self._client is not None else 0) + self._topic.undecodable

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _poll(self, client: JetStreamSource) -> TopicTrades | None:
        """Return what has come, waiting for it for a while."""
        if (trades := client.poll_trades(MAX_ROWS)) is not None:
            return trades
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        # The descriptor stays readable until it is polled: it may be watched only while somebody waits.
        loop.add_reader(client.fileno(), news.set)
        try:
            async with asyncio.timeout(LOOK_S):
                await news.wait()
        except TimeoutError:
            return None
        finally:
            loop.remove_reader(client.fileno())
        return client.poll_trades(MAX_ROWS)

    @property
    def _opened(self) -> JetStreamSource:
        if self._client is None:
            raise RuntimeError("the source has not been opened")
        return self._client
