"""One judge and the rules that its batches go to: what every stream of ticks is judged by, whoever sent it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from tickcast.rules import Verdicts
from tickcast.ticks import Ticks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcast._core import Batch, EarlierVerdicts, Judge, Judged, Pending
    from tickcast.rules import Runner

__all__ = ["Begun", "Judging"]


_NOT_KNOWN = 255


class Begun:
    """A batch between the judge's two halves. Taken with `judged` in the order of `Judging.begin`."""

    __slots__ = ("earlier", "judging", "pending", "verdicts")

    def __init__(
        self,
        judging: Judging,
        pending: Pending,
        verdicts: asyncio.Future[Verdicts],
        earlier: NDArray[np.uint8] | None = None,
    ) -> None:
        self.judging = judging
        self.pending = pending
        self.verdicts = verdicts
        """What the rules say; done when they have spoken."""
        self.earlier = earlier
        """Shape ``(n,)``: the status numbers given earlier, 255 where none is known; None: nothing is known."""

    async def judged(self) -> Judged:
        """Wait for the rules and return the trades."""
        verdicts = await self.verdicts
        if self.earlier is not None:
            verdicts.status[:] = np.where(self.earlier == _NOT_KNOWN, verdicts.status, self.earlier)
        return self.judging.settle(self.pending, verdicts)


class Judging:
    """A judge with windows of its own, and rules that may be shared with others."""

    def __init__(self, judge: Judge, runner: Runner) -> None:
        self.judge = judge
        self.earlier: EarlierVerdicts | None = None
        """What silent batches are judged by already; None: they are judged again."""
        self._runner = runner
        self._instruments: list[str] = []

    def begin(self, batch: Batch, *, live: bool) -> Begun:
        """Screen a batch, let it enter the windows and hand it to the rules.

        A silent batch goes to them only where they look back on it, or where verdicts of earlier are missing.
        """
        pending = self.judge.begin(batch, live)
        if not batch.silent or self.earlier is None:
            return Begun(self, pending, self.submit(pending))
        earlier = np.frombuffer(self.earlier.of(pending), np.uint8)
        declaration = self._runner.declaration
        looks_back = declaration is not None and declaration.lookback_ns > 0
        if looks_back or (earlier == _NOT_KNOWN).any():
            return Begun(self, pending, self.submit(pending), earlier)
        unasked: asyncio.Future[Verdicts] = asyncio.get_running_loop().create_future()
        unasked.set_result(Verdicts.blank(len(pending), declaration))
        return Begun(self, pending, unasked, earlier)

    def submit(self, pending: Pending, vwap_20m: NDArray[np.float64] | None = None) -> asyncio.Future[Verdicts]:
        """Hand a screened batch to the rules; ``vwap_20m``, a value a row, takes the place of the windows'."""
        self._instruments.extend(self.judge.instruments(len(self._instruments)))
        columns = {
            "price": np.asarray(pending.price),
            "volume": np.asarray(pending.volume),
            "timestamp_ns": np.asarray(pending.timestamp_ns),
            "instrument": np.asarray(pending.instrument),
            "vwap_20m": np.asarray(pending.vwap_20m if vwap_20m is None else vwap_20m),
            "now_ns": np.asarray(pending.event_clock_ns),
        }
        return self._runner.submit(Ticks.of_columns(columns, self._instruments))

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
