"""A small stand-in for a proprietary quant library, and the rule sets that put it to work.

It is honest about what it is. `QuantLibrary.validate_and_enrich` waits 10 ms, as a look-up in a database of limits
would, and compares with limits made up from the instrument's name. `QuantLibrary.plausible` computes something real,
expensively: see there. None of it is trading advice.

    tickcast serve --source sim:// --rules tickcast.examples.quantlib:rules     # with the wait
    tickcast serve --source sim:// --rules tickcast.examples.quantlib:fast      # without
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

import tickcast as tc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Assessment", "QuantLibrary", "fast", "rules"]


@dataclass(slots=True)
class Assessment:
    """What the library says of one tick: status, reason, and a figure of its own."""

    status: str
    """``VALID`` or ``INVALID``."""
    reason: str | None = None
    limit_used: float = 0.0
    """Notional of the tick as a share of the instrument's limit; 1 = all of it."""


class QuantLibrary:
    """The stand-in.

    Args:
        lookup_s: Seconds that one look-up of a limit takes.
        annual_volatility: Of the prices, 0.4 = 40 % in a year; used by `plausible`.
    """

    def __init__(self, lookup_s: float = 0.010, annual_volatility: float = 4.0) -> None:
        self._lookup_s: Final = lookup_s
        minutes_of_a_year = 365 * 24 * 60
        self._deviation: Final = annual_volatility * float(np.sqrt(20 / minutes_of_a_year))

    async def validate_and_enrich(self, tick: tc.Tick) -> Assessment:
        """Look up the limit of the tick's instrument and hold its notional against it."""
        await asyncio.sleep(self._lookup_s)
        limit = self._limit(tick.instrument_id)
        used = tick.price * tick.volume / limit
        if used > 1:
            return Assessment("INVALID", f"Notional above the limit of {limit:,.0f}", used)
        return Assessment("VALID", None, used)

    def plausible(self, ticks: tc.Ticks) -> tc.Outcome:
        """Check that a price so far from its 20-minute VWAP has a probability of at least one in a million.

        The probability is that of a normal variate with the volatility of 20 minutes lying at least as far out as
        ``ln(price / VWAP)``. It is integrated by Simpson's rule over 65 points for each tick, where one call of
        ``erfc`` would do: that is the point, a check that keeps a core busy (some 3 to 10 us a tick).
        """
        with np.errstate(invalid="ignore"):
            distance = np.abs(np.log(ticks.price / ticks.vwap_20m)) / self._deviation
        distance = np.minimum(np.nan_to_num(distance, nan=0.0), _FAR)
        points = distance[:, None] + (_FAR + 2.0 - distance)[:, None] * _STEPS
        density = np.exp(-0.5 * points * points)
        tail = density @ _SIMPSON * (_FAR + 2.0 - distance) * np.sqrt(2 / np.pi)
        return tc.Outcome(tail >= _IMPROBABLE, observed=tail, limit=_IMPROBABLE)

    def turnover(self, ticks: tc.Ticks) -> NDArray[np.float64]:
        """Return price times volume, in quote currency."""
        return ticks.price * ticks.volume

    def _limit(self, instrument_id: str) -> float:
        """Return a limit made up from the name: 50 to 150 million in quote currency, the same on every machine."""
        return 50e6 + zlib.crc32(instrument_id.encode()) % 100 * 1e6


_FAR: Final = 10.0  # standard deviations; beyond, everything is equally impossible
_IMPROBABLE: Final = 1e-6
_POINTS: Final = 65
_STEPS: Final = np.linspace(0.0, 1.0, _POINTS)
_SIMPSON: Final = np.where(np.arange(_POINTS) % 2, 4.0, 2.0) / (3 * (_POINTS - 1))
_SIMPSON[[0, -1]] /= 2

_library: Final = QuantLibrary()

rules = tc.RuleSet("quantlib")
rules.check(reason="Implausibly far from the 20-minute VWAP")(_library.plausible)
rules.adopt(_library.validate_and_enrich, enrich={"limit_used": ""})
rules.enrich("turnover", unit="USD")(_library.turnover)

fast = tc.RuleSet("quantlib-fast")
fast.check(reason="Implausibly far from the 20-minute VWAP")(_library.plausible)
fast.enrich("turnover", unit="USD")(_library.turnover)
