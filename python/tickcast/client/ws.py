"""A gateway's ``tickcast.v1.json``."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.protocol import State

from tickcast.client.messages import Frame, Granted, Heartbeat, Hello, Message, Wish, batch_of_json
from tickcast.client.types import Gap, Place, Status
from tickcast.errors import ConfigError, LinkLostError, LinkRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from websockets.asyncio.client import ClientConnection

__all__ = ["Gateway", "address"]

SUBPROTOCOL = "tickcast.v1.json"
SOCKET_PATH = "/ws/marketdata"
DONT_COME_BACK = range(4500, 5000)
"""Close codes after which a client stays away (``docs/protocol.md``)."""
CONNECT_S = 10.0
SILENCE_S = 5.0
"""Without a word for so much longer than its heartbeat, the connection is dead, whatever TCP says."""
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def address(url: str) -> str:
    """Return the WebSocket address that a URL means: ``http``, ``https``, ``ws`` or ``wss``, or host:port.

    Raises:
        ConfigError: It is none of these.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ConfigError(f"URL: must be an address such as http://127.0.0.1:3000, was {url!r}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") or SOCKET_PATH, parts.query, ""))


class Gateway:
    """A gateway's WebSocket."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = address(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def messages(self, wish: Wish, place: Place | None) -> AsyncGenerator[Message, None]:
        """Yield the messages of one connection until it is lost."""
        retry_s = 0.0
        try:
            socket = await websockets.connect(
                self._url,
                subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
                additional_headers=self._headers,
                max_size=_MAX_MESSAGE_BYTES,
                compression=None,
                open_timeout=CONNECT_S,
                close_timeout=1.0,
            )
            try:
                if socket.subprotocol != SUBPROTOCOL:
                    raise LinkRefusedError(f"{self._url} does not speak {SUBPROTOCOL}")
                await socket.send(msgspec.json.encode(_subscribe(wish, place)).decode())
                patience_s, enrichments = CONNECT_S, list[str]()
                while True:
                    said = await _receive(socket, patience_s)
                    match said["type"]:
                        case "hello":
                            patience_s = said.get("heartbeatMs", 5_000) / 1_000 + SILENCE_S
                            enrichments = [e["name"] for e in said.get("enrichments", ())]
                            yield Hello(said["epoch"], said["seq"])
                        case "bye":
                            retry_s = said.get("retryAfterMs", 0) / 1_000
                        case _:
                            if (message := _typed(said, enrichments)) is not None:
                                yield message
            finally:
                _leave(socket)
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code in DONT_COME_BACK:
                why = f"the gateway says not to come back: {closed.rcvd.code} {closed.rcvd.reason}"
                raise LinkRefusedError(why) from None
            raise LinkLostError(f"{self._url}: {closed}", retry_s) from None
        except InvalidStatus as refused:
            status = refused.response.status_code
            why = f"{self._url} refuses the connection (HTTP {status})"
            raise (LinkRefusedError if 400 <= status < 500 and status != 429 else LinkLostError)(why) from None
        except (InvalidHandshake, InvalidURI) as error:
            raise LinkLostError(f"{self._url} is no tickcast gateway: {error}") from None
        except (OSError, TimeoutError) as error:
            raise LinkLostError(f"can't connect to {self._url}: {_reason(error)}") from None


def _leave(socket: ClientConnection) -> None:
    """Say goodbye and wait for nothing: whoever just leaves the loop over a subscription may end at once.

    The event loop closes what is left then, and would be told of an error by what still waits for an answer.
    """
    if socket.state is State.OPEN:
        socket.protocol.send_close(CloseCode.NORMAL_CLOSURE)
        socket.transport.writelines([data for data in socket.protocol.data_to_send() if data])
    socket.transport.close()


async def _receive(socket: ClientConnection, patience_s: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(patience_s):
            said = await socket.recv()
    except TimeoutError:
        raise LinkLostError(f"the gateway has said nothing for {patience_s:g} s") from None
    message: dict[str, Any] = msgspec.json.decode(said)
    return message


def _typed(said: dict[str, Any], enrichments: list[str]) -> Message | None:
    match said["type"]:
        case "trades" | "snapshot" as kind:
            return Frame(batch_of_json(said, enrichments), snapshot=kind == "snapshot")
        case "gap":
            return Gap(first=said["from"], last=said["to"], why=said["why"])
        case "status":
            return Status(source=said["source"], state=said["state"], since_ns=int(said["since"]))
        case "subscribed" if said.get("granted"):
            return Granted(said["granted"]["fromSeq"])
        case "heartbeat":
            return Heartbeat(said["seq"])
        case "error":
            raise LinkRefusedError(f"the gateway says: {said['code']} {said['message']}")
    return None  # of a later version


def _subscribe(wish: Wish, place: Place | None) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "subscribe", "snapshot": wish.snapshot}
    if wish.instruments is not None:
        message["instruments"] = list(wish.instruments)
    if wish.statuses is not None:
        message["status"] = list(wish.statuses)
    if wish.latest:
        message["mode"] = "latest"
    if wish.max_rate_hz is not None:
        message["maxRateHz"] = wish.max_rate_hz
    if place is not None:
        message |= {"fromSeq": place.next_seq} | ({"epoch": place.epoch} if place.epoch else {})
    return message


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
