"""``kafka://``: a topic read by a consumer group; messages are decoded by batch, in Rust.

The group spreads the partitions over its processors. A processor that is given a partition first reads again what the
windows of its instruments hold, silently, from the offset that was saved with the last commit; trades go out only from
the committed position on. So a processor that takes over computes what the one before it would have.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tickcast import urls
from tickcast._core import Batch, Decoder, EarlierVerdicts
from tickcast.kafka import Ownership
from tickcast.sources.base import Lag, Position, SourceState
from tickcast.sources.member import Member
from tickcast.sources.shelf import Shelf
from tickcast.sources.shelves import Shelves
from tickcast.sources.validated import ValidatedTopic

__all__ = ["KafkaSource"]


class KafkaSource:
    """A member of a consumer group. Reconnects by itself, for ever.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        instance: Name of this member for ever.
        memory: File in which it is remembered which partitions were owned.
        reach_ns: How far back windows and rules need ticks, ns.
        validated: Where the group's trades go; None: nowhere that they could be read again.
        volume_scale: Volumes are multiplied by this power of ten.
        scales: Scales of single instruments.
    """

    live = True
    positioned = True

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        url: urls.Kafka,
        options: dict[str, str],
        instance: str,
        memory: Path,
        reach_ns: int,
        validated: urls.KafkaSink | None,
        volume_scale: int,
        scales: dict[str, int],
    ) -> None:
        self._url = url
        self._decoder = Decoder(format=url.format, volume_scale=volume_scale, volume_scales=scales)
        self.ownership = Ownership(memory)
        self.earlier = EarlierVerdicts()
        self._validated = ValidatedTopic(validated, options) if validated is not None else None
        self._shelves = Shelves()
        name = url.instance or instance
        self._member = Member(url, options, name, reach_ns, self._shelves, self.ownership, self._tell)
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin_on_tape: Callable[[int, int, bool], Awaitable[int]] | None = None

    def attach(self, epoch: int, begin: Callable[[int, int, bool], Awaitable[int]]) -> None:
        """Learn how to have a partition begin anew; see `LogSource.attach`."""
        self.ownership.remember(epoch)
        self._begin_on_tape = begin

    def appended(self, positions: Iterable[Position]) -> None:
        """Learn which partitions the tape has something of."""
        self.ownership.appended({position[:2] for position in positions})

    async def open(self, positions: Sequence[Position]) -> None:
        """Begin to connect and to join the group."""
        self._loop = asyncio.get_running_loop()
        self._member.start(positions)

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for messages and return them: of all partitions that have some, or of one whose windows are filled.

        Raises:
            SourceError: The brokers refuse, and trying again would not help.
        """
        while True:
            self._news.clear()
            filled = self._shelves.filled()
            if not filled:
                if self._member.error is not None:
                    raise self._member.error
                await self._news.wait()
                continue
            partition, shelf = filled[0]
            if shelf.is_fresh:
                await self._begin(partition, shelf)
            if shelf.is_silent:
                batch = await self._next_silent(partition, shelf, max_rows)
            else:
                batch = self._next_together(filled, max_rows)
            if batch is not None:
                return batch

    async def _begin(self, partition: int, shelf: Shelf) -> None:
        """Have a partition begin anew, and tell the sinks what is of its present owner."""
        if self._begin_on_tape is not None:
            head = await self._begin_on_tape(shelf.stream, partition, shelf.goes_on)
            # Unless it has changed hands again meanwhile.
            begin = partial(self.ownership.begin, shelf.stream, partition, head)
            self._shelves.if_there(partition, begin, shelf=shelf)
        shelf.is_fresh = False

    async def _next_silent(self, partition: int, shelf: Shelf, max_rows: int) -> Batch | None:
        """Take messages of a partition that only fill its windows."""
        inboxes = self._shelves.take([(partition, shelf)], max_rows)
        if not inboxes:
            return None
        batch = self._decoder.decode(inboxes, stream=shelf.stream, silent=True)
        await self._look_up(partition, shelf, batch, since_ms=inboxes[0][1][0].first_ms)
        return batch

    def _next_together(self, filled: list[tuple[int, Shelf]], max_rows: int) -> Batch | None:
        """Take messages whose trades go out, of all partitions that are under way: a batch costs the same for all."""
        stream = filled[0][1].stream
        ready = [
            (at, shelf) for at, shelf in filled if not (shelf.is_fresh or shelf.is_silent or shelf.stream != stream)
        ]
        inboxes = self._shelves.take(ready, max_rows)
        for partition, shelf in ready:
            if shelf.remembers and shelf.taken >= 0:
                shelf.remembers = False
                self.earlier.forget(stream, partition)
        return self._decoder.decode(inboxes, stream=stream) if inboxes else None

    async def _look_up(self, partition: int, shelf: Shelf, batch: Batch, *, since_ms: int) -> None:
        """See to it that the verdicts on a silent batch are known, where the topic of judged trades has them."""
        if self._validated is None or shelf.looked_up or not self.earlier.lacks(batch):
            return
        shelf.looked_up = True
        # What waits besides is looked up with it: the topic is read once.
        partitions = self._shelves.to_look_up() | {partition: since_ms}
        read, since_ms = self._validated.read, min(partitions.values())
        await asyncio.to_thread(read, self.earlier, shelf.stream, list(partitions), since_ms, self._member.closing)

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Note that tape and sinks have everything up to `position`; committed soon."""
        self._shelves.save(position, lowest)

    def state(self) -> SourceState:
        """Return where the connection stands."""
        return self._member.state

    def lags(self) -> list[Lag]:
        """Return how many messages each of its partitions has that were not handed out, as of the last fetch."""
        reached, ends = self._shelves.reached(), self._member.ends
        known = {at: max(0, ends[at] - place) for at, place in reached.items() if ends.get(at, -1) >= 0 <= place}
        return [Lag(f"{self.topic}/{at}", known.get(at)) for at in reached]

    @property
    def lost(self) -> int:
        """Messages that the log had no more when it was to be read on: nothing else gets lost."""
        return self._member.lost

    async def close(self) -> None:
        """Commit what is saved, and leave; the partitions stay reserved for this member until its session ends."""
        await asyncio.to_thread(self._member.close)

    def group_metadata(self) -> Any:  # noqa: ANN401 (librdkafka's own, opaque)
        """Return what a transaction needs to commit positions for the group; None before the source has joined it.

        After a rebalance it is out of date for a moment: the brokers refuse it, and the transaction is written again.
        """
        return self._member.group_metadata

    def look_again(self, timeout_s: float) -> bool:
        """Ask what the group has committed, and wait for the answer: from there on sinks have to write.

        Returns:
            Whether it has come within ``timeout_s``.
        """
        return self._member.look_again(timeout_s)

    def lowest(self, partition: int) -> int | None:
        """Return the offset from which a partition has been read; None: not known."""
        return self._shelves.lowest(partition)

    @property
    def transactional_id(self) -> str:
        """Name of the transactions that commit for this member."""
        return self._member.transactional_id

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._url.topic

    @property
    def commits(self) -> bool:
        """Whether the source commits; else the sink does, with its transactions."""
        return self._member.commits

    def _tell(self) -> None:
        """Wake whoever waits for messages; called from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._news.set)
