"""Under a server whose `send` has to be awaited the same application serves the same clients."""

import asyncio
import json

import pytest

from fixtures.gateway import Feed
from fixtures.wsclient import Ledger
from tickcast.config import Config, Web
from tickcast.gateway.asgi import App


class Connection:
    """One WebSocket over bare ASGI; `send` is a coroutine that takes its time."""

    def __init__(self, app: App, subprotocols: list[str]) -> None:
        self.sent: asyncio.Queue = asyncio.Queue()
        self._incoming: asyncio.Queue = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "path": "/ws/marketdata",
            "raw_path": b"/ws/marketdata",
            "root_path": "",
            "scheme": "ws",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:1")],
            "client": ("127.0.0.1", 2),
            "server": ("127.0.0.1", 1),
            "subprotocols": subprotocols,
            "state": {},
        }
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._send))

    async def _send(self, message):
        await asyncio.sleep(0.001)
        await self.sent.put(message)

    async def message(self) -> dict:
        async with asyncio.timeout(10):
            sent = await self.sent.get()
        return json.loads(sent["text"]) if "text" in sent else sent

    def says(self, message: dict) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def leaves(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})


@pytest.fixture
async def app(run_dir):
    made = App(Config(run_dir=str(run_dir), web=Web(heartbeat_ms=200)))
    await made.worker.start()
    yield made
    await made.worker.close()


@pytest.fixture
def feed(run_dir):
    made = Feed(run_dir)
    yield made
    made.close()


async def test_frames_are_awaited_one_by_one_and_none_is_lost(feed, app):
    connection = Connection(app, ["tickcast.v1.json"])
    assert (await connection.message()) == {"type": "websocket.accept", "subprotocol": "tickcast.v1.json"}
    assert (await connection.message())["type"] == "hello"
    connection.says({"type": "subscribe", "fromSeq": 1})
    ledger = Ledger()
    with feed.running(2_000):
        while not ledger.sequences or ledger.sequences[-1] < 1_500:
            ledger.add(await connection.message())
    ledger.check()
    assert ledger.sequences[0] == 1
    connection.leaves()
    async with asyncio.timeout(5):
        await connection.task


async def test_the_plain_form_and_an_orderly_end(feed, app):
    before = asyncio.all_tasks()
    connection = Connection(app, [])
    assert (await connection.message())["type"] == "websocket.accept"
    while app.worker.pump.stats()["plain_clients"] == 0:
        await asyncio.sleep(0.01)
    feed.add(20)
    assert [(await connection.message())["volume"] for _ in range(20)] == [str(n) for n in range(1, 21)]
    await app.worker.drain()
    assert (await connection.message())["code"] == 1001
    async with asyncio.timeout(5):
        await connection.task
    assert asyncio.all_tasks() <= before, "no task is left of the connection"
    late = Connection(app, ["tickcast.v1.json"])
    assert (await late.message())["type"] == "websocket.accept"
    assert (await late.message())["code"] == 4000
    await late.task
