"""What a rule sees and says: columns of ticks (`Ticks`), one tick (`Tick`), a check's answer in figures (`Outcome`).

`Ticks` are read-only NumPy views: making them copies nothing, and a rule can't change what another rule, or the trade,
will show. A rule may keep a view for as long as it likes; its contents never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Outcome", "Tick", "Ticks"]

_NAMES = ("price", "volume", "timestamp_ns", "instrument", "vwap_20m", "now_ns")
_FEW = 256
"""Up to so many rows a loop is faster than sorting (4 rows: 0.8 against 6.5 µs; 256: 15 against 87)."""


class Tick(msgspec.Struct, gc=False):
    """One tick, as a per-tick rule gets it: an object of its own, made for this one call."""

    instrument_id: str
    """3 to 10 characters, as it came from upstream."""
    price: float
    """Quote currency per unit; finite, > 0."""
    volume: int
    """Units traded, > 0 (scaled where the source has a ``volume_scale``)."""
    timestamp_ns: int
    """Event time, ns since the Unix epoch, UTC."""
    vwap_20m: float
    """VWAP over the instrument's earlier ticks of the last 20 minutes that passed the screen; NaN: there are none."""
    now_ns: int
    """Event clock when the tick was judged, ns since the Unix epoch."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a check may return instead of a mask: with the figures that "why" shows of a reject.

    Args:
        passed: Shape ``(n,)``, bool. True = passes.
        observed: Shape ``(n,)`` or scalar, float64. What the check looked at, in the rule's own unit.
        limit: Shape ``(n,)`` or scalar, float64. What ``observed`` was held against, same unit.
    """

    passed: NDArray[np.bool_]
    observed: NDArray[np.float64] | float = float("nan")
    limit: NDArray[np.float64] | float = float("nan")


class Ticks:
    """A batch of ticks in columns of one length ``n``; every column read-only.

    Args:
        price: Shape ``(n,)``, float64. Quote currency per unit; finite, > 0.
        volume: Shape ``(n,)``, int64, > 0. Units traded.
        timestamp_ns: Shape ``(n,)``, int64. Event time, ns since the Unix epoch; need not be sorted.
        instrument: Shape ``(n,)``, int32. Codes: indexes into ``instruments``, which may hold more than the batch has.
        instruments: Code to instrument id. Codes keep their meaning for the life of a runner, and are no more than
            that: compare ids, not codes, with anything from outside.
        vwap_20m: Shape ``(n,)``, float64. See `Tick.vwap_20m`; None: NaN everywhere.
        now_ns: Shape ``(n,)`` or scalar, int64. See `Tick.now_ns`; None: ``timestamp_ns``.

    Raises:
        ValueError: Columns differ in length, have more than one dimension, or would lose digits in their dtype.
    """

    __slots__ = ("instrument", "instruments", "now_ns", "price", "timestamp_ns", "volume", "vwap_20m")

    price: NDArray[np.float64]
    volume: NDArray[np.int64]
    timestamp_ns: NDArray[np.int64]
    instrument: NDArray[np.int32]
    instruments: Sequence[str]
    vwap_20m: NDArray[np.float64]
    now_ns: NDArray[np.int64]

    def __init__(  # noqa: PLR0917 - the columns, in the order of their names everywhere
        self,
        price: ArrayLike,
        volume: ArrayLike,
        timestamp_ns: ArrayLike,
        instrument: ArrayLike,
        instruments: Sequence[str],
        vwap_20m: ArrayLike | None = None,
        now_ns: ArrayLike | None = None,
    ) -> None:
        put = object.__setattr__
        prices = _column("price", price, np.float64)
        rows = len(prices)
        put(self, "price", prices)
        put(self, "volume", _column("volume", volume, np.int64, rows))
        put(self, "timestamp_ns", _column("timestamp_ns", timestamp_ns, np.int64, rows))
        put(self, "instrument", _column("instrument", instrument, np.int32, rows))
        put(self, "instruments", instruments)
        put(self, "vwap_20m", _column("vwap_20m", float("nan") if vwap_20m is None else vwap_20m, np.float64, rows))
        put(self, "now_ns", _column("now_ns", self.timestamp_ns if now_ns is None else now_ns, np.int64, rows))

    @classmethod
    def of_columns(cls, columns: Mapping[str, NDArray[Any]], instruments: Sequence[str]) -> Ticks:
        """Return ticks over columns that are known to be right: read-only, of the dtypes and shape above, all given."""
        ticks = cls.__new__(cls)
        put = object.__setattr__
        put(ticks, "instruments", instruments)
        for name, column in columns.items():
            put(ticks, name, column)
        return ticks

    def __len__(self) -> int:
        """Number of ticks."""
        return len(self.price)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: ticks are read-only."""
        raise AttributeError(f"ticks are read-only: can't set {name!r}")

    def __repr__(self) -> str:
        return f"Ticks({len(self)} ticks)"

    def of(self, *instrument_ids: str) -> NDArray[np.bool_]:
        """Return which rows belong to the named instruments: shape ``(n,)``, bool."""
        names = self.instruments
        if len(self) <= _FEW:
            return np.array([names[code] in instrument_ids for code in self.instrument.tolist()], np.bool_)
        wanted = [code for code in np.unique(self.instrument).tolist() if names[code] in instrument_ids]
        return np.isin(self.instrument, wanted)

    def take(self, rows: NDArray[np.intp]) -> Ticks:
        """Return the ticks at these row numbers, in this order (a copy, read-only as well)."""
        return self._derive(rows)

    def span(self, start: int, stop: int) -> Ticks:
        """Return rows ``start <= i < stop`` without copying."""
        return self._derive(slice(start, stop))

    def with_codes(self, instrument: NDArray[np.int32], instruments: Sequence[str]) -> Ticks:
        """Return the same ticks under other instrument codes."""
        other = self._derive(slice(None))
        object.__setattr__(other, "instrument", _column("instrument", instrument, np.int32, len(self)))
        object.__setattr__(other, "instruments", instruments)
        return other

    def each(self) -> Iterator[Tick]:
        """Yield every row as a `Tick`."""
        names = self.instruments
        ids = [names[code] for code in self.instrument.tolist()]
        return map(
            Tick,
            ids,
            self.price.tolist(),
            self.volume.tolist(),
            self.timestamp_ns.tolist(),
            self.vwap_20m.tolist(),
            self.now_ns.tolist(),
        )

    def _derive(self, rows: slice | NDArray[np.intp]) -> Ticks:
        # Past __init__ and its checks: the columns are known to be right, and this is done per batch.
        columns = {name: getattr(self, name)[rows] for name in _NAMES}
        for column in columns.values():
            column.flags.writeable = False
        return Ticks.of_columns(columns, self.instruments)


def _column(name: str, values: ArrayLike, dtype: type[Any], rows: int | None = None) -> NDArray[Any]:
    """Return ``values`` as a read-only one-dimensional view of ``dtype``, copied only where the dtype differs."""
    column = np.asarray(values)
    if column.dtype != dtype:
        if column.dtype == np.uint32 and dtype is np.int32:
            column = column.view(np.int32)  # codes as Rust has them; they never come near 2**31
        elif column.size and not np.can_cast(column.dtype, dtype, "same_kind"):
            raise ValueError(f"{name} must be {np.dtype(dtype).name}, was {column.dtype}")
        else:
            column = column.astype(dtype)
    if column.ndim == 0 and rows is not None:
        column = np.broadcast_to(column, rows)
    if column.ndim != 1 or (rows is not None and len(column) != rows):
        expected = "(n,)" if rows is None else f"({rows},)"
        raise ValueError(f"{name} must have shape {expected}, has {column.shape}")
    view = column.view()
    view.flags.writeable = False
    return view
