"""What a subscription yields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["Batch", "Event", "Gap", "Lost", "Mode", "Place", "Snapshot", "Status", "StatusName", "Trade"]

Mode: TypeAlias = Literal["tape", "latest"]
"""Every trade, or of each instrument the newest."""
StatusName: TypeAlias = Literal["UNKNOWN", "VALID", "INVALID"]
STATUS_NAMES: tuple[StatusName, ...] = ("UNKNOWN", "VALID", "INVALID")


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A tick after judgement."""

    seq: int
    """Its number on the tape."""
    trade_id: str
    """32 hex digits; the same tick has the same id wherever it is processed."""
    instrument_id: str
    """Instrument."""
    price: float
    """Quote currency per unit; NaN where the tick's was no finite number."""
    volume: int
    """Units traded."""
    timestamp_ns: int
    """Event time, ns since the Unix epoch."""
    status: StatusName
    """The verdict."""
    reason: str | None = None
    """Why it is not VALID."""
    vwap_20m: float | None = None
    """Volume-weighted average price of the instrument's last 20 minutes; VALID trades only."""
    enrichments: dict[str, float] = {}
    """The rule set's further columns, where they apply."""

    def plain(self) -> dict[str, Any]:
        """Return the trade in the plain form of docs/protocol.md."""
        fields: dict[str, Any] = {
            "tradeId": self.trade_id,
            "instrumentId": self.instrument_id,
            "price": self.price if np.isfinite(self.price) else None,
            "volume": str(self.volume),
            "timestampNs": str(self.timestamp_ns),
            "status": self.status,
        }
        if self.reason is not None:
            fields["reason"] = self.reason
        if self.vwap_20m is not None:
            fields["vwap20m"] = self.vwap_20m
        return fields | self.enrichments


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences that don't come one by one."""

    first: int
    """First of them."""
    last: int
    """Last of them."""
    why: str
    """``overrun``, ``epoch`` or ``upstream``, as in docs/protocol.md."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What feeds the processor."""

    source: str
    """Its URL without secrets."""
    state: str
    """``live``, ``stale``, ``reconnecting``, ``ended`` or ``waiting``."""
    since_ns: int
    """Since when, ns since the Unix epoch."""


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The connection broke; it is tried again, and taken up where it was."""

    why: str
    """What happened."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A resume token: where a subscription goes on, also in another process, on any gateway of the processor."""

    epoch: str
    """Id of the tape's numbering."""
    next_seq: int
    """First sequence that has not come."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Trades of a frame as columns of equal length, in the order of the tape."""

    first_seq: int
    """First sequence that the frame covers."""
    last_seq: int
    """Last sequence that it covers."""
    sent_ns: int
    """Clock of the server when it made the frame, ns since the Unix epoch."""
    conflated: int = 0
    """In mode latest: how many trades of the range were subscribed to and are left out for newer ones."""
    seq: npt.NDArray[np.uint64]
    """Shape ``(n,)``: numbers on the tape."""
    trade_id: list[str]
    """Ids, 32 hex digits each."""
    instrument_id: list[str]
    """Instruments."""
    price: npt.NDArray[np.float64]
    """Shape ``(n,)``, quote currency per unit."""
    volume: npt.NDArray[np.int64]
    """Shape ``(n,)``, units traded."""
    timestamp_ns: npt.NDArray[np.int64]
    """Shape ``(n,)``, event time, ns since the Unix epoch."""
    status: npt.NDArray[np.uint8]
    """Shape ``(n,)``: 0 UNKNOWN, 1 VALID, 2 INVALID."""
    reason: list[str | None]
    """Why trades are not VALID."""
    vwap_20m: npt.NDArray[np.float64]
    """Shape ``(n,)``; NaN where there is none."""
    enrichments: dict[str, npt.NDArray[np.float64]]
    """The rule set's further columns, shape ``(n,)`` each; NaN where they don't apply."""

    def __len__(self) -> int:
        return len(self.trade_id)

    def trades(self) -> Iterator[Trade]:
        """Iterate over the trades one by one."""
        names = list(self.enrichments)
        extras = [column.tolist() for column in self.enrichments.values()]
        columns = zip(
            self.seq.tolist(),
            self.trade_id,
            self.instrument_id,
            self.price.tolist(),
            self.volume.tolist(),
            self.timestamp_ns.tolist(),
            self.status.tolist(),
            self.reason,
            self.vwap_20m.tolist(),
            strict=True,
        )
        for row, (seq, trade_id, instrument, price, volume, time_ns, status, reason, vwap) in enumerate(columns):
            values = [(name, column[row]) for name, column in zip(names, extras, strict=True)]
            yield Trade(
                seq=seq,
                trade_id=trade_id,
                instrument_id=instrument,
                price=price,
                volume=volume,
                timestamp_ns=time_ns,
                status=STATUS_NAMES[status],
                reason=reason,
                vwap_20m=None if vwap != vwap else vwap,  # noqa: PLR0124 (NaN)
                enrichments={name: value for name, value in values if value == value},  # noqa: PLR0124 (NaN)
            )

    def to_numpy(self) -> npt.NDArray[np.void]:
        """Return one structured array, shape ``(n,)``: a field for each column, texts as fixed-width strings."""
        columns: dict[str, Any] = {
            "seq": self.seq,
            "trade_id": np.array(self.trade_id, dtype="U32"),
            "instrument_id": np.array(self.instrument_id, dtype=np.str_),
            "price": self.price,
            "volume": self.volume,
            "timestamp_ns": self.timestamp_ns,
            "status": self.status,
            "reason": np.array([reason or "" for reason in self.reason], dtype=np.str_),
            "vwap_20m": self.vwap_20m,
            **self.enrichments,
        }
        out = np.empty(len(self), dtype=[(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            out[name] = column
        return out

    def to_arrow(self) -> Any:  # noqa: ANN401 (pyarrow is an extra)
        """Return a ``pyarrow.RecordBatch``; needs ``tickcast[arrow]``.

        Raises:
            ImportError: pyarrow is not installed.
        """
        import pyarrow as pa  # noqa: PLC0415

        names = pa.array(STATUS_NAMES)
        columns = {
            "seq": pa.array(self.seq),
            "trade_id": pa.array(self.trade_id, pa.string()),
            "instrument_id": pa.array(self.instrument_id, pa.string()).dictionary_encode(),
            "price": pa.array(self.price),
            "volume": pa.array(self.volume),
            "timestamp": pa.array(self.timestamp_ns, pa.timestamp("ns", "UTC")),
            "status": pa.DictionaryArray.from_arrays(pa.array(self.status.astype(np.int8)), names),
            "reason": pa.array(self.reason, pa.string()),
            "vwap_20m": pa.array(self.vwap_20m, from_pandas=True),
            **{name: pa.array(column, from_pandas=True) for name, column in self.enrichments.items()},
        }
        return pa.RecordBatch.from_pydict(columns)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Newest values: of each instrument its newest VALID trade, where the stream does not go on from where it was."""

    batch: Batch
    """The trades, ascending by sequence."""


Event: TypeAlias = Trade | Gap | Status | Snapshot | Lost
"""What `Subscription.events` yields."""
