"""From a decoded batch to judged trades, in order, with several batches at the rules at a time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import numpy as np

from tickcast._core import Batch, Judge, Judged, Pending, __version__
from tickcast.config import Config
from tickcast.rules import Declaration, Runner, Verdicts, discover, make_runner
from tickcast.ticks import Ticks

__all__ = ["Pipeline", "make_judge"]


def make_judge(config: Config) -> Judge:
    """Return a judge with empty windows.

    Raises:
        ConfigError: Bounds of the screen or lengths of the window are not allowed.
    """
    screen, window = config.screen, config.window
    return Judge(
        id_chars=(screen.id_min, screen.id_max),
        band=(screen.price_min, screen.price_max),
        bands={name: (low, high) for name, (low, high) in screen.bands.items()},
        max_ahead_ns=screen.max_ahead_ns,
        window_ns=window.window_ns,
        hold_ns=window.hold_ns,
        max_window_bytes=window.max_bytes,
    )


class Pipeline:
    """Judge and rules. Batches are settled in the order in which they were begun."""

    def __init__(self, config: Config) -> None:
        """Set up; nothing runs before `start`.

        Raises:
            ConfigError: Screen or window are configured wrongly.
            RuleError: The rules can't be chosen.
        """
        self.judge = make_judge(config)
        self.runner: Runner = make_runner(
            None,
            config.rules or discover(),
            workers=config.judge.rule_workers,
            deadline_s=config.judge.deadline_s,
            policy=config.judge.policy,
            concurrency=config.judge.concurrency,
        )
        self._instruments: list[str] = []

    async def start(self) -> None:
        """Start the rules.

        Raises:
            RuleError: The rule set can't be imported, or is declared wrongly.
        """
        await self.runner.start()

    async def close(self) -> None:
        """End the rules' processes."""
        await self.runner.close()

    @property
    def declaration(self) -> Declaration:
        """What the rules declare; known after `start`. Without rules: the screen, which declares nothing."""
        return self.runner.declaration or Declaration("screen", __version__)

    @property
    def enrichment_names(self) -> list[str]:
        """Names of the columns that the rules add, in order."""
        return [enrichment.name for enrichment in self.declaration.enrichments]

    def begin(self, batch: Batch, *, live: bool) -> tuple[Pending, "asyncio.Future[Verdicts]"]:
        """Screen a batch, let it enter the windows and hand it to the rules."""
        pending = self.judge.begin(batch, live)
        return pending, self._submit(pending)

    async def peek(self, payload: bytes, stream: int, offset: int) -> list[str]:
        """Judge one client's payload against the windows without entering it; return its trades as JSON."""
        pending = self.judge.peek(payload, stream, offset)
        judged = self.settle(pending, await self._submit(pending))
        return judged.json(self.enrichment_names)

    def settle(self, pending: Pending, verdicts: Verdicts) -> Judged:
        """Take the verdicts on the oldest pending batch."""
        return self.judge.settle(
            pending,
            verdicts.status.tobytes(),
            verdicts.reason.astype(np.uint32, copy=False).tobytes(),
            list(zip(verdicts.reasons, verdicts.is_text, strict=True)),
            verdicts.rule.astype(np.uint16, copy=False).tobytes(),
            verdicts.observed.tobytes(),
            verdicts.limit.tobytes(),
            np.ascontiguousarray(verdicts.enrichments).tobytes(),
        )

    async def run(
        self,
        batches: AsyncIterator[Batch],
        *,
        live: bool,
        in_flight: int,
        begun: Callable[[Batch, Pending], Awaitable[None]],
    ) -> AsyncGenerator[Judged, None]:
        """Judge batches as they come, at most ``in_flight`` at the rules at a time, and yield trades in order.

        Args:
            batches: What the source gives.
            live: Whether ticks are happening now.
            in_flight: Most batches between the judge's two halves.
            begun: Called with each batch once it is at the rules.
        """
        waiting: asyncio.Queue[tuple[Pending, asyncio.Future[Verdicts]] | None] = asyncio.Queue(in_flight)

        async def feed() -> None:
            try:
                async for batch in batches:
                    pending, verdicts = self.begin(batch, live=live)
                    await begun(batch, pending)
                    await waiting.put((pending, verdicts))
            finally:
                await waiting.put(None)

        feeding = asyncio.create_task(feed())
        try:
            while (item := await waiting.get()) is not None:
                pending, verdicts = item
                yield self.settle(pending, await verdicts)
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    def _submit(self, pending: Pending) -> "asyncio.Future[Verdicts]":
        self._instruments.extend(self.judge.instruments(len(self._instruments)))
        ticks = Ticks(
            price=np.asarray(pending.price),
            volume=np.asarray(pending.volume),
            timestamp_ns=np.asarray(pending.timestamp_ns),
            instrument=np.asarray(pending.instrument),
            instruments=self._instruments,
            vwap_20m=np.asarray(pending.vwap_20m),
            now_ns=np.asarray(pending.event_clock_ns),
        )
        return self.runner.submit(ticks)
