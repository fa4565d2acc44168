"""What clients of ``tickcast.v1`` may say, checked; and the answers that do not come from the pump.

Unknown fields are let pass: later versions add some.
"""

import math
import time
from typing import Literal

import msgspec

__all__ = [
    "Ack",
    "ClientMessage",
    "Ping",
    "RequestId",
    "Subscribe",
    "Tick",
    "Unsubscribe",
    "WrongMessageError",
    "error",
    "parse",
    "plain_refusal",
    "pong",
    "verdict",
]

RequestId = int | str
StatusName = Literal["VALID", "INVALID", "UNKNOWN"]
_ABSENT = msgspec.Raw(b"null")
_MOST_INSTRUMENTS = 10_000
LEAST_ACK_BYTES = 16 * 1024
MOST_ACK_BYTES = 64 * 1024 * 1024


class _ClientMessage(msgspec.Struct, rename="camel", tag_field="type", kw_only=True):
    """Anything with a type."""


class Subscribe(_ClientMessage, tag="subscribe"):
    """Asks for trades; replaces what was asked for before."""

    id: RequestId | None = None
    instruments: list[str] | None = None
    status: list[StatusName] | StatusName | None = None
    from_seq: int | None = None
    epoch: str | None = None
    mode: Literal["tape", "latest"] = "tape"
    max_rate_hz: float | None = None
    snapshot: bool = True
    ack_bytes: int | None = None
    stages: bool = False
    compress: Literal["deflate-raw"] | None = None

    def statuses(self) -> list[int] | None:
        """Return the numbers of the statuses asked for, None for all."""
        names = [self.status] if isinstance(self.status, str) else self.status
        return None if names is None else [("UNKNOWN", "VALID", "INVALID").index(name) for name in names]

    def granted_ack_bytes(self) -> int | None:
        """Return the window that is granted, bytes."""
        return None if self.ack_bytes is None else min(max(self.ack_bytes, LEAST_ACK_BYTES), MOST_ACK_BYTES)


class Unsubscribe(_ClientMessage, tag="unsubscribe"):
    """Ends the trades, not the connection."""

    id: RequestId | None = None


class Ack(_ClientMessage, tag="ack"):
    """Confirms what was taken; of use only where acks were asked for."""

    seq: int


class Tick(_ClientMessage, tag="tick"):
    """Asks for a verdict; its fields go to the processor as they are, which judges what is wrong with them."""

    id: RequestId | None = None
    instrument_id: msgspec.Raw = _ABSENT
    price: msgspec.Raw = _ABSENT
    volume: msgspec.Raw = _ABSENT
    traceparent: msgspec.Raw = _ABSENT

    def payload(self) -> str:
        """Return the tick in the plain form, with its trace context, which goes wherever it is judged."""
        fields = {"instrumentId": self.instrument_id, "price": self.price, "volume": self.volume}
        fields["traceparent"] = self.traceparent
        return msgspec.json.encode({key: raw for key, raw in fields.items() if bytes(raw) != b"null"}).decode()


class Ping(_ClientMessage, tag="ping"):
    """Asks for the server's clock."""

    t: msgspec.Raw = _ABSENT


ClientMessage = Subscribe | Unsubscribe | Ack | Tick | Ping
_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class _Head(msgspec.Struct):
    type: object = None
    id: object = None


class WrongMessageError(Exception):
    """A message that can't be obeyed; carries the code and the request's id for the answer."""

    def __init__(self, code: str, message: str, request: RequestId | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request = request


def parse(text: str | bytes) -> ClientMessage:
    """Return what a client said.

    Raises:
        WrongMessageError: It is not JSON, of no known type, or a field is wrong; says which and why.
    """
    try:
        message: ClientMessage = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise _explain(text, problem) from None
    if isinstance(message, Subscribe):
        _check(message)
    if isinstance(message, Ack) and not 0 <= message.seq < 2**63:
        raise WrongMessageError("malformed", f"seq: must be from 0, was {message.seq}")
    return message


def _check(message: Subscribe) -> None:
    if message.max_rate_hz is not None and not 0 < message.max_rate_hz < math.inf:
        raise WrongMessageError("malformed", f"maxRateHz: must be above 0, was {message.max_rate_hz}", message.id)
    if message.ack_bytes is not None and message.ack_bytes < 1:
        raise WrongMessageError("malformed", f"ackBytes: must be from 1, was {message.ack_bytes}", message.id)
    if message.from_seq is not None and not 1 <= message.from_seq < 2**63:
        raise WrongMessageError("malformed", f"fromSeq: must be from 1, was {message.from_seq}", message.id)
    if message.instruments is not None and len(message.instruments) > _MOST_INSTRUMENTS:
        raise WrongMessageError(
            "malformed",
            f"instruments: at most {_MOST_INSTRUMENTS}, were {len(message.instruments)}; leave it out for all",
            message.id,
        )


def _explain(text: str | bytes, problem: Exception) -> WrongMessageError:
    """Find out more of a message that could not be read, to answer it well."""
    try:
        head = msgspec.json.decode(text, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return WrongMessageError("malformed", f"not a JSON object: {problem}")
    request = head.id if isinstance(head.id, int | str) and not isinstance(head.id, bool) else None
    known = [kind.__struct_config__.tag for kind in ClientMessage.__args__]
    if head.type not in known:
        return WrongMessageError(
            "unknown", f"type: must be one of {', '.join(map(str, known))}, was {head.type!r}", request
        )
    return WrongMessageError("malformed", f"{head.type}: {problem}", request)


def error(code: str, message: str, request: RequestId | None = None) -> str:
    """Return ``error``."""
    fields: dict[str, object] = {"type": "error", "code": code, "message": message}
    if request is not None:
        fields["id"] = request
    return msgspec.json.encode(fields).decode()


def verdict(trade: bytes, request: RequestId | None) -> str:
    """Return ``verdict``; `trade` is a plain trade object as JSON."""
    fields: dict[str, object] = {"type": "verdict", "trade": msgspec.Raw(trade)}
    if request is not None:
        fields["id"] = request
    return msgspec.json.encode(fields).decode()


def pong(t: bytes) -> str:
    """Return ``pong`` with the ping's `t` as it came."""
    fields = {"type": "pong", "t": msgspec.Raw(t), "serverNs": str(time.time_ns())}
    return msgspec.json.encode(fields).decode()


class _SentTick(msgspec.Struct, rename="camel"):
    instrument_id: object = ""
    price: object = 0.0
    volume: object = "0"


def plain_refusal(text: str | bytes, why: str) -> str:
    """Return the plain trade that tells a sender that its tick could not be judged.

    What can be read of the tick comes back in it; the id is empty, for there is no trade.
    """
    try:
        tick = msgspec.json.decode(text, type=_SentTick)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        tick = _SentTick()
    return msgspec.json.encode(
        {
            "tradeId": "",
            "instrumentId": tick.instrument_id if isinstance(tick.instrument_id, str) else "",
            "price": tick.price if isinstance(tick.price, int | float) else 0.0,
            "volume": str(tick.volume),
            "timestampNs": str(time.time_ns()),
            "status": "INVALID",
            "reason": f"Processing error: {why}",
        }
    ).decode()
