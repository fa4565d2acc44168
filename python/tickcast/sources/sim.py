"""``sim://``: simulated ticks, paced by the clock or as fast as they are taken."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from tickcast import urls
from tickcast._core import Batch, Sim
from tickcast.sources.base import Position, SourceState

__all__ = ["SimSource"]

UNPACED_RATE = 5_000.0

PACE_S = 0.002
"""How often due ticks are looked for: adds at most this to a tick's latency."""


class SimSource:
    """The simulator as a source."""

    live = True
    positioned = False

    def __init__(self, url: urls.Sim) -> None:
        self._url = url
        self._sim = Sim(
            # As fast as possible, the rate only spaces the ticks' own times.
            rate=url.rate or UNPACED_RATE,
            instruments=url.instruments,
            seed=url.seed,
            faults=url.faults,
            start_ns=url.start_ns,
            stream=secrets.randbits(32),
        )
        self._state = SourceState.now("stale")

    async def open(self, positions: Sequence[Position]) -> None:
        """Begin; simulated ticks can't be read again, so there is no position to go on from."""
        self._sim.begin(time.time_ns())
        self._state = SourceState.now("live")

    async def next(self, max_rows: int) -> Batch | None:
        """Return the ticks that have fallen due."""
        while True:
            unpaced = self._url.rate is None
            batch = self._sim.take(max_rows) if unpaced else self._sim.due(time.time_ns(), max_rows)
            if batch is not None:
                # Lets the rest of the processor run, however fast the simulator is.
                await asyncio.sleep(0)
                return batch
            await asyncio.sleep(PACE_S)

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Nothing to keep."""

    def state(self) -> SourceState:
        """Return where the source stands."""
        return self._state

    @property
    def lost(self) -> int:
        """Nothing gets lost here."""
        return 0

    async def close(self) -> None:
        """Nothing to let go."""
