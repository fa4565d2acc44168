"""No source: the processor only judges the ticks that clients send."""

import asyncio
from collections.abc import Sequence

from tickcast._core import Batch
from tickcast.sources.base import Position, SourceState

__all__ = ["IdleSource"]


class IdleSource:
    """Never has a tick."""

    live = True
    positioned = False

    def __init__(self) -> None:
        self._state = SourceState.now("live", "no source configured: only clients' ticks are judged")

    async def open(self, positions: Sequence[Position]) -> None:
        """Nothing to connect to."""

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for ever."""
        await asyncio.Event().wait()
        return None

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
