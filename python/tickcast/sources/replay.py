"""``replay:PATH``: a recorded file, at its own pace, faster, or as fast as possible."""

import asyncio
import time
from collections.abc import Sequence

from tickcast import urls
from tickcast._core import Batch
from tickcast.recordings import open_recording
from tickcast.sources.base import Position, SourceState

__all__ = ["END_OFFSET", "ReplaySource"]

END_OFFSET = 2**64 - 1
"""Offset that stands in the tape's position once the file has been read to its end."""

SLICE_S = 0.05
"""Longest sleep while waiting for the next tick: bounds how long a stop takes."""


class ReplaySource:
    """A recorded file as a source.

    Pauses longer than ``max_gap`` are cut to it. The pace counts event time against the wall clock.
    """

    live = False
    positioned = True

    def __init__(self, url: urls.Replay, volume_scale: int, scales: dict[str, int]) -> None:
        self._url = url
        self._replay = open_recording(url, volume_scale, scales)
        self._state = SourceState.now("stale")
        self._anchor: tuple[int, int] | None = None

    @property
    def stream(self) -> int:
        """Stream number of the file's positions, from its base name."""
        return self._replay.stream

    def ended_on(self, positions: Sequence[Position]) -> bool:
        """Whether a tape with these positions has the whole file."""
        return any(p[0] == self.stream and p[2] == END_OFFSET for p in positions)

    async def open(self, positions: Sequence[Position]) -> None:
        """Skip the rows that the tape has."""
        done = [p[2] + 1 for p in positions if p[0] == self.stream]
        if done:
            await asyncio.to_thread(self._replay.skip, max(done))
        self._state = SourceState.now("live")

    async def next(self, max_rows: int) -> Batch | None:
        """Return the rows whose time has come."""
        while True:
            until_ns = None if self._url.pace is None else await self._wait()
            batch = await asyncio.to_thread(self._replay.take, until_ns, max_rows)
            if batch is not None:
                return batch
            if self._replay.done:
                self._state = SourceState.now("ended", f"{self._url.path} has been read to its end")
                return None

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Nothing to keep: the tape's position is enough."""

    def state(self) -> SourceState:
        """Return where the source stands."""
        return self._state

    @property
    def lost(self) -> int:
        """Nothing gets lost here."""
        return 0

    async def close(self) -> None:
        """Nothing to let go."""

    async def _wait(self) -> int | None:
        """Sleep until the next row is due; return the event time that the wall clock has reached."""
        pace = self._url.pace or 1.0
        while True:
            next_ns = await asyncio.to_thread(self._replay.next_time_ns)
            if next_ns is None:
                return None
            now_ns = time.monotonic_ns()
            if self._anchor is None:
                self._anchor = (next_ns, now_ns)
            event_ns, wall_ns = self._anchor
            reached_ns = event_ns + int((now_ns - wall_ns) * pace)
            if next_ns <= reached_ns:
                return reached_ns
            if next_ns - reached_ns > self._url.max_gap_ns * pace:
                self._anchor = (next_ns - int(self._url.max_gap_ns * pace), now_ns)
                continue
            await asyncio.sleep(min((next_ns - reached_ns) / pace / 1e9, SLICE_S))
