"""``/ws/marketdata``: chooses the form, accepts, and hands the connection to a `Session`."""

import asyncio
import contextlib
from typing import Any

from litestar import WebSocket, websocket
from litestar.di import NamedDependency

from tickcast.gateway.codes import GOING_AWAY, CloseCode
from tickcast.gateway.sender import AwaitedSend, Send, ends, starts_unawaited
from tickcast.gateway.session import Form, Session
from tickcast.gateway.worker import Worker

__all__ = ["SUBPROTOCOLS", "marketdata"]

SUBPROTOCOLS: dict[str, Form] = {"tickcast.v1.bin": "bin", "tickcast.v1.json": "json"}
"""What is spoken; of several that a client offers its first is taken."""
_FAMILY = "tickcast."


@websocket("/ws/marketdata")
async def marketdata(socket: WebSocket[Any, Any, Any], worker: NamedDependency[Worker]) -> None:
    """Serve one client, in the plain form or in one of ``tickcast.v1``."""
    # Litestar wraps both several times; the pump needs the server's own.
    send, receive = socket.scope["tickcast.send"], socket.scope["tickcast.receive"]  # type: ignore[typeddict-item]
    await receive()
    offered = list(socket.scope["subprotocols"])
    chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
    if chosen is None and offered:
        await _turn_away(send, next((name for name in offered if name.startswith(_FAMILY)), None))
        return
    accepting = send({"type": "websocket.accept", "subprotocol": chosen})
    native = starts_unawaited(accepting)
    await accepting
    if worker.draining:
        await _close(send, CloseCode.DRAINING if chosen else GOING_AWAY, "the gateway is going down")
        return
    async with contextlib.AsyncExitStack() as stack:
        if not native:
            awaited = AwaitedSend(send)
            stack.push_async_callback(awaited.close)
            send = awaited
        session = Session(
            worker.pump,
            worker.control,
            send,
            receive,
            form=SUBPROTOCOLS.get(chosen or "", "plain"),
            ends=ends(socket.scope) if native and worker.config.web.direct else None,
        )
        with worker.visit(session):
            await session.run()


async def _turn_away(send: Send, ours: str | None) -> None:
    """Say that a subprotocol is not spoken: by a close code where the name is of our family, else by HTTP."""
    reason = f"offer {' or '.join(SUBPROTOCOLS)}, or no subprotocol for the plain form"
    if ours is not None:
        await send({"type": "websocket.accept", "subprotocol": ours})
        await _close(send, CloseCode.UNSUPPORTED, f"{ours} is not spoken here: {reason}")
        return
    await deny(send, 400, reason)


async def _close(send: Send, code: int, reason: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await send({"type": "websocket.close", "code": code, "reason": reason})


async def deny(send: Send, status: int, reason: str) -> None:
    """Refuse a handshake with an HTTP answer."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": reason.encode() + b"\n"})
