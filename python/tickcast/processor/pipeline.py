"""From a decoded batch to judged trades, in order, with several batches at the rules at a time."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import msgspec
import numpy as np

from tickcast._core import Batch, Judge, Judged, Pending, __version__
from tickcast.config import Config
from tickcast.layers import chosen_rules
from tickcast.processor.judging import Begun, Judging
from tickcast.rpc.tracing import follow_tick
from tickcast.rules import Declaration, Runner, make_runner

__all__ = ["Pipeline", "Rejudged", "make_judge"]


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


class Rejudged(msgspec.Struct, rename="camel"):
    """What the rules of now say of a tick."""

    status: str
    reason: str | None
    rule: str | None
    """The rule that decided, ``screen`` for the built-in checks; None: all passed."""
    rule_set: str
    observed: float | None = None
    limit: float | None = None


class _Judged(msgspec.Struct, rename="camel"):
    status: str
    reason: str | None = None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class Pipeline:
    """Judge and rules. Batches are settled in the order in which they were begun."""

    def __init__(self, config: Config) -> None:
        """Set up; nothing runs before `start`.

        Raises:
            ConfigError: Screen or window are configured wrongly, or the rules can't be chosen.
        """
        self._config = config
        self.judge = make_judge(config)
        self.runner: Runner = make_runner(
            None,
            chosen_rules(config),
            workers=config.judge.rule_workers,
            deadline_s=config.judge.deadline_s,
            policy=config.judge.policy,
            concurrency=config.judge.concurrency,
        )
        self.judging = Judging(self.judge, self.runner)

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

    def new_judging(self) -> Judging:
        """Return a judge with empty windows of its own and the same rules."""
        return Judging(make_judge(self._config), self.runner)

    async def peek(self, payload: bytes, stream: int, offset: int) -> list[str]:
        """Judge one client's payload against the windows without entering it; return its trades as JSON."""
        arrived_ns, followed = time.time_ns(), follow_tick(payload)
        pending = self.judge.peek(payload, stream, offset)
        trace = followed.batch(len(pending), arrived_ns, arrived_ns) if followed is not None else None
        verdicts = await self.judging.submit(pending)
        if trace is not None:
            trace.stage("rules")
        judged = self.judging.settle(pending, verdicts)
        if trace is not None:
            trace.stage("settle")
            trace.end()
        return judged.json(self.enrichment_names)

    async def rejudge(self, payload: bytes, stream: int, offset: int, rules_vwap: float | None) -> Rejudged:
        """Judge a tick as it was by the rules of now, with the VWAP that the rules saw then; it enters no window.

        Args:
            payload: One tick as JSON, with its own time.
            stream: Of the position that the passing trade gets.
            offset: Likewise.
            rules_vwap: Quote currency per unit; None: there was none.

        Raises:
            ValueError: The payload does not hold exactly one tick.
        """
        pending = self.judge.peek(payload, stream, offset)
        seen = np.full(len(pending), math.nan if rules_vwap is None else rules_vwap)
        seen.flags.writeable = False
        verdicts = await self.judging.submit(pending, seen)
        trades = self.judging.settle(pending, verdicts).json(self.enrichment_names)
        if len(trades) != 1:
            raise ValueError(f"the message holds {len(trades)} ticks, must be one")
        trade = msgspec.json.decode(trades[0], type=_Judged)
        if not len(verdicts):
            return Rejudged(trade.status, trade.reason, "screen", self.declaration.label)
        number = int(verdicts.rule[0])
        rule = self.declaration.rules[number - 1].name if number else None
        observed, limit = (float(column[0]) for column in (verdicts.observed, verdicts.limit))
        return Rejudged(trade.status, trade.reason, rule, self.declaration.label, _finite(observed), _finite(limit))

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
        waiting: asyncio.Queue[Begun | None] = asyncio.Queue(in_flight)

        async def feed() -> None:
            try:
                async for batch in batches:
                    item = self.judging.begin(batch, live=live)
                    await begun(batch, item.pending)
                    await waiting.put(item)
            finally:
                await waiting.put(None)

        feeding = asyncio.create_task(feed())
        try:
            while (next_one := await waiting.get()) is not None:
                yield await next_one.judged()
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
