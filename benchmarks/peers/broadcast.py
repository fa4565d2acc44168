"""The broadcasting server in Python that one would write first: Starlette on uvicorn, `gather` over all sockets.

    python benchmarks/peers/broadcast.py NATS_URL SUBJECT

Ticks come from NATS; each is checked and gets its 20-minute VWAP, in plain Python, and the trade goes to every socket
before the next tick is looked at. Its port is the first line that it prints.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator

import nats
import uvicorn
from nats.aio.msg import Msg
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

WINDOW_NS = 20 * 60 * 1_000_000_000

sockets: set[WebSocket] = set()
windows: dict[str, deque[tuple[int, float, int]]] = defaultdict(deque)
sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
ids = itertools.count()
encode = json.JSONEncoder(separators=(",", ":")).encode


def judge(payload: bytes) -> str:
    """Return the trade of a tick, as JSON."""
    tick = json.loads(payload)
    name, price, volume, time_ns = tick["instrumentId"], tick["price"], tick["volume"], int(tick["timestampNs"])
    trade = {"tradeId": f"{next(ids):032x}", "instrumentId": name, "price": price, "volume": str(volume)}
    trade |= {"timestampNs": str(time_ns)}
    if not 0.01 <= price <= 10_000:
        return encode(trade | {"status": "INVALID", "reason": "Price out of acceptable range"})
    window, total = windows[name], sums[name]
    window.append((time_ns, price * volume, volume))
    total[0] += price * volume
    total[1] += volume
    while window[0][0] <= time_ns - WINDOW_NS:
        _, value, units = window.popleft()
        total[0] -= value
        total[1] -= units
    return encode(trade | {"status": "VALID", "vwap20m": total[0] / total[1]})


async def deliver(message: Msg) -> None:
    """Send a tick's trade to everybody."""
    text = judge(message.data)
    await asyncio.gather(*(socket.send_text(text) for socket in list(sockets)), return_exceptions=True)


async def marketdata(socket: WebSocket) -> None:
    """Keep a client until it goes."""
    await socket.accept()
    sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        sockets.discard(socket)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Listen to the queue as long as the server runs."""
    connection = await nats.connect(sys.argv[1])
    await connection.subscribe(sys.argv[2], cb=deliver)
    yield
    await connection.close()


async def main() -> None:
    """Serve until ended."""
    app = Starlette(routes=[WebSocketRoute("/ws/marketdata", marketdata)], lifespan=lifespan)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws_per_message_deflate=False))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main())
