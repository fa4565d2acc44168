"""One judge and the rules that its batches go to: what every stream of ticks is judged by, whoever sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tickcast.ticks import Ticks

if TYPE_CHECKING:
    import asyncio

    from numpy.typing import NDArray

    from tickcast._core import Batch, Judge, Judged, Pending
    from tickcast.rules import Runner, Verdicts

__all__ = ["Begun", "Judging"]


class Begun:
    """A batch between the judge's two halves. Taken with `judged` in the order of `Judging.begin`."""

    __slots__ = ("judging", "pending", "verdicts")

    def __init__(self, judging: Judging, pending: Pending, verdicts: asyncio.Future[Verdicts]) -> None:
        self.judging = judging
        self.pending = pending
        self.verdicts = verdicts
        """What the rules say; done when they have spoken."""

    async def judged(self) -> Judged:
        """Wait for the rules and return the trades."""
        return self.judging.settle(self.pending, await self.verdicts)


class Judging:
    """A judge with windows of its own, and rules that may be shared with others."""

    def __init__(self, judge: Judge, runner: Runner) -> None:
        self.judge = judge
        self._runner = runner
        self._instruments: list[str] = []

    def begin(self, batch: Batch, *, live: bool) -> Begun:
        """Screen a batch, let it enter the windows and hand it to the rules."""
        pending = self.judge.begin(batch, live)
        return Begun(self, pending, self.submit(pending))

    def submit(self, pending: Pending, vwap_20m: NDArray[np.float64] | None = None) -> asyncio.Future[Verdicts]:
        """Hand a screened batch to the rules; ``vwap_20m``, a value a row, takes the place of the windows'."""
        self._instruments.extend(self.judge.instruments(len(self._instruments)))
        ticks = Ticks(
            price=np.asarray(pending.price),
            volume=np.asarray(pending.volume),
            timestamp_ns=np.asarray(pending.timestamp_ns),
            instrument=np.asarray(pending.instrument),
            instruments=self._instruments,
            vwap_20m=np.asarray(pending.vwap_20m) if vwap_20m is None else vwap_20m,
            now_ns=np.asarray(pending.event_clock_ns),
        )
        return self._runner.submit(ticks)

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
