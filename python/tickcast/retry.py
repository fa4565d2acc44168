"""When to try again: pauses with full jitter, and a circuit breaker around a connection that keeps failing.

Written here, because what libraries there are (tenacity, purgatory, aiobreaker) retry and guard *calls*; what is to be
brought back here is a stream that may have lived for hours, and the breaker's state is to be seen from outside.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

__all__ = ["Limits", "Reconnect"]

State = Literal["closed", "open", "half-open"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How patient to be."""

    first_s: float = 0.1
    """Longest first pause, seconds; it doubles from failure to failure."""
    longest_s: float = 2.0
    """Longest pause while the breaker is closed, seconds."""
    failures: int = 5
    """Failures in a row that open the breaker."""
    open_s: float = 3.0
    """How long it stays open before the first probe, seconds; doubles with every probe that fails."""
    longest_open_s: float = 30.0
    """Longest time between two probes, seconds."""


class Reconnect:
    """Counts what became of the attempts, and waits between them.

    Closed: the next attempt comes after a random pause, up to twice as long from failure to failure. Open: it comes
    only after a while, as a probe (half-open); if that works the breaker closes, else it opens for longer.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits or Limits()
        self.state: State = "closed"
        self.since_ns = time.time_ns()
        """When this state began, ns since the Unix epoch."""
        self.failures = 0
        """Failures in a row."""
        self._sleep = sleep
        self._chance = chance

    def worked(self) -> None:
        """Note that the connection stands."""
        self.failures = 0
        self._become("closed")

    def failed(self) -> None:
        """Note that an attempt failed, or that the connection was lost."""
        self.failures += 1
        if self.state == "half-open" or self.failures >= self.limits.failures:
            self._become("open")

    async def pause(self, least_s: float = 0.0) -> None:
        """Wait until it is time for the next attempt, at least as long as the other side asked for."""
        await self._sleep(least_s + self.next_pause_s())
        if self.state == "open":
            self._become("half-open")

    def next_pause_s(self) -> float:
        """Return a pause, a random one (full jitter), so that those who lost the same server don't come at once."""
        limits = self.limits
        if self.state == "open":
            beyond = self.failures - limits.failures
            bound = min(limits.longest_open_s, limits.open_s * 2.0 ** min(beyond, 30))
            # Never much sooner: an open breaker is there to leave the other side alone.
            return bound / 2 + self._chance() * bound / 2
        bound = min(limits.longest_s, limits.first_s * 2.0 ** min(max(self.failures - 1, 0), 30))
        return self._chance() * bound

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state, self.since_ns = state, time.time_ns()
