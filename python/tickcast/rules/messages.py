"""What parent and worker say to each other, over a socket: wake-ups, and what has no fixed size.

Columns go through shared memory (`slots.py`). A message is four bytes of length, little-endian, and MessagePack.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from tickcast.rules.declaration import Declaration  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Failed", "Hello", "Init", "Messages", "Order", "Setup", "Verdict", "pack", "unpack_from_parent"]

_LENGTH: Final = struct.Struct("<I")


class Init(msgspec.Struct, tag=0, array_like=True):
    """Parent to worker, first: what to import."""

    spec: str
    path: list[str]
    """``sys.path`` of the parent, so that the same modules are found."""
    deadline_s: float
    fail_open: bool
    concurrency: int
    nice: int
    """Added to the niceness: a probe must not take the processor from the path."""


class Hello(msgspec.Struct, tag=1, array_like=True):
    """Worker to parent: the rules are imported."""

    declaration: Declaration


class Failed(msgspec.Struct, tag=2, array_like=True):
    """Worker to parent: they are not; the worker ends."""

    message: str


class Setup(msgspec.Struct, tag=3, array_like=True):
    """Parent to worker: the shape of the shared memory."""

    slots: int
    rows: int


class Order(msgspec.Struct, tag=4, array_like=True):
    """Parent to worker: judge what lies in a slot."""

    task: int
    slot: int
    rows: int
    names: list[str]
    """Ids of instrument codes that the worker doesn't know yet; codes go on where it stands."""
    blocked: dict[int, set[int] | None]
    isolate: set[int]
    only: int


class Verdict(msgspec.Struct, tag=5, array_like=True):
    """Worker to parent: judged; the columns lie in the slot."""

    task: int
    texts: list[str]
    """Free-text reasons, numbered after the declared ones."""
    late: list[tuple[int, int]]
    """Awaits that were cut off: (rule, instrument code)."""


_encoder = msgspec.msgpack.Encoder()
_from_parent: Any = msgspec.msgpack.Decoder(Init | Setup | Order)
_from_worker: Any = msgspec.msgpack.Decoder(Hello | Failed | Verdict)


def pack(message: msgspec.Struct) -> bytes:
    """Return a message with its length before it."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def unpack_from_parent(body: bytes) -> Init | Setup | Order:
    """Return a message of the parent."""
    message: Init | Setup | Order = _from_parent.decode(body)
    return message


class Messages(asyncio.Protocol):
    """Cuts a stream into messages.

    Args:
        receive: Called with each message.
        lost: Called when the other side is gone.
        of_worker: Whether the other side is a worker.
    """

    def __init__(self, receive: Callable[[Any], None], lost: Callable[[], None], *, of_worker: bool) -> None:
        self._receive = receive
        self._lost = lost
        self._decode = (_from_worker if of_worker else _from_parent).decode
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer: messages may come before whoever opened the connection hears of it."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; once the other side is gone, to nobody: `lost` says so."""
        if not self._transport.is_closing():
            self._transport.write(pack(message))

    def data_received(self, data: bytes) -> None:
        """Take what came, and hand on the messages that are whole."""
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= _LENGTH.size:
            stop = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            if stop > end:
                break
            self._receive(self._decode(data[start + _LENGTH.size : stop]))
            start = stop
        self._rest = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self._lost()
