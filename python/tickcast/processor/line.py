"""The order of the tape: whoever brings ticks, their trades are delivered in the order in which they were begun.

What the common windows say of a trade depends on those before it on the tape. So everything that enters these windows
goes through one line: the source's batches, and those of clients where they are published.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tickcast._core import Batch, Judged, Pending
from tickcast.processor.judging import Begun, Judging

__all__ = ["Line", "Queued"]


class Queued(Begun):
    """A batch in the line."""

    __slots__ = ("delivered", "positioned")

    def __init__(self, begun: Begun, *, positioned: bool) -> None:
        super().__init__(begun.judging, begun.pending, begun.verdicts, begun.earlier)
        self.positioned = positioned
        """Whether reading can go on behind it after a restart."""
        self.delivered: asyncio.Future[Judged] = asyncio.get_running_loop().create_future()
        """Its trades, once they are delivered."""

    async def judged(self) -> Judged:
        """Wait until the trades are delivered and return them."""
        # Whoever waits may leave; the trades are delivered all the same, and others may ask when.
        return await asyncio.shield(self.delivered)


class Line:
    """Batches between the judge's two halves, over one judge.

    Args:
        judging: The judge and its rules.
        begun: Told of each batch as it enters the windows.
        deliver: Puts the trades of a batch on the tape.
    """

    def __init__(
        self,
        judging: Judging,
        begun: Callable[[Batch, Pending], None],
        deliver: Callable[[Judged, bool], Awaitable[None]],
    ) -> None:
        self._judging = judging
        self._begun = begun
        self._deliver = deliver
        self._waiting: asyncio.Queue[Queued] = asyncio.Queue()
        self._last: Queued | None = None
        self.is_delivering = False
        """Trades are settled that are not on the tape yet."""

    def begin(self, batch: Batch, *, live: bool, positioned: bool = False) -> Queued:
        """Screen a batch, let it enter the windows, hand it to the rules, and give it its place in the line."""
        queued = Queued(self._judging.begin(batch, live=live), positioned=positioned)
        self._begun(batch, queued.pending)
        self._waiting.put_nowait(queued)
        self._last = queued
        return queued

    async def forget(self, stream: int, partition: int) -> None:
        """Empty the windows of a source partition's instruments, once all that was begun of them is delivered."""
        # Not whatever has come since: clients may always have something under way.
        await self._delivered()
        while not self._judging.judge.forget(stream, partition):
            await self._delivered()

    async def _delivered(self) -> None:
        """Wait until all that has been begun so far is delivered."""
        if self._last is not None:
            await asyncio.wait([self._last.delivered])

    async def run(self) -> None:
        """Settle and deliver, batch by batch, until cancelled."""
        while True:
            queued = await self._waiting.get()
            judged = await Begun.judged(queued)
            self.is_delivering = True
            await self._deliver(judged, queued.positioned)
            self.is_delivering = False
            if not queued.delivered.done():  # its client may have left
                queued.delivered.set_result(judged)
