"""What connections of either kind say, before a subscription makes events of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
import numpy as np

from tickcast.client.types import STATUS_NAMES, Batch, Gap, Place, Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = [
    "Connection",
    "Frame",
    "Granted",
    "Heartbeat",
    "Hello",
    "Message",
    "Wish",
    "batch_of_columns",
    "batch_of_json",
]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is subscribed to."""

    instruments: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    snapshot: bool = False
    latest: bool = False
    max_rate_hz: float | None = None


class Hello(msgspec.Struct, frozen=True):
    """The tape."""

    epoch: str
    seq: int


class Granted(msgspec.Struct, frozen=True):
    """The subscription holds; trades come one by one from here on."""

    from_seq: int


class Frame(msgspec.Struct, frozen=True):
    """Trades, or a snapshot."""

    batch: Batch
    snapshot: bool = False


class Heartbeat(msgspec.Struct, frozen=True):
    """Everything up to here was sent or is not wanted."""

    seq: int


Message: TypeAlias = Hello | Granted | Frame | Gap | Status | Heartbeat


class Connection(Protocol):
    """A way to a server."""

    def messages(self, wish: Wish, place: Place | None) -> AsyncGenerator[Message, None]:
        """Yield the messages of one connection until it is lost.

        Raises:
            LinkLostError: It is lost.
            LinkRefusedError: The server says not to come back.
        """


def batch_of_columns(columns: dict[str, Any], enrichments: list[str]) -> Batch:
    """Return the batch of a binary frame that the extension has taken apart."""
    return Batch(
        first_seq=columns["seq"],
        last_seq=columns["to_seq"],
        sent_ns=columns["sent_ns"],
        conflated=columns["conflated"] or 0,
        seq=np.frombuffer(columns["seqs"], np.uint64),
        trade_id=columns["trade_id"],
        instrument_id=columns["instrument_id"],
        price=np.frombuffer(columns["price"], np.float64),
        volume=np.frombuffer(columns["volume"], np.int64),
        timestamp_ns=np.frombuffer(columns["timestamp_ns"], np.int64),
        status=np.frombuffer(columns["status"], np.uint8),
        reason=columns["reason"],
        vwap_20m=np.frombuffer(columns["vwap_20m"], np.float64),
        enrichments={
            name: np.frombuffer(column, np.float64)
            for name, column in zip(enrichments, columns["enrichments"], strict=False)
        },
    )


def batch_of_json(message: dict[str, Any], enrichments: list[str]) -> Batch:
    """Return the batch of a ``trades`` or ``snapshot`` message of ``tickcast.v1.json``."""
    trades = message["trades"]
    seqs = message.get("seqs")
    nan = float("nan")

    def column(name: str, absent: object = None) -> list[Any]:
        return [absent if (value := trade.get(name)) is None else value for trade in trades]

    return Batch(
        first_seq=message["seq"],
        last_seq=message["toSeq"],
        sent_ns=int(message.get("sentNs", 0)),
        conflated=message.get("conflated", 0),
        seq=np.array(seqs if seqs is not None else range(message["seq"], message["seq"] + len(trades)), np.uint64),
        trade_id=column("tradeId"),
        instrument_id=column("instrumentId"),
        price=np.array(column("price", nan), np.float64),
        volume=np.array([int(volume) for volume in column("volume")], np.int64),
        timestamp_ns=np.array([int(time_ns) for time_ns in column("timestampNs")], np.int64),
        status=np.array([STATUS_NAMES.index(status) for status in column("status")], np.uint8),
        reason=column("reason"),
        vwap_20m=np.array(column("vwap20m", nan), np.float64),
        enrichments={name: np.array(column(name, nan), np.float64) for name in enrichments},
    )
