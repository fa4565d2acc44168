"""One client's session over a pump and a server that the test plays."""

import asyncio
import json

from tickcast.gateway import session as module
from tickcast.gateway.codes import CloseCode
from tickcast.gateway.control import JudgeError
from tickcast.gateway.session import Left, Session


class Pending:
    """A message under way; done when the test says so."""

    def __init__(self, *, done: bool) -> None:
        self.finished, self.cancelled = done, False

    def done(self) -> bool:
        return self.finished

    def cancel(self) -> None:
        self.cancelled = True


class FakePump:
    """Notes what the session asks of it; hands clients back on `detach`."""

    def __init__(self) -> None:
        self.said: list[dict] = []
        self.calls: list[tuple] = []
        self.session: Session | None = None
        self.stopped = False

    def attach(self, send, *, form: str, ends: tuple[str, int, int] | None) -> int:
        return 7

    def detach(self, client: int) -> None:
        if self.stopped:
            raise RuntimeError("the pump has stopped")
        self.calls.append(("detach", client))
        self.session.leave(Left(0))

    def say(self, client: int, text: str) -> None:
        self.said.append(json.loads(text))

    def subscribe(self, client: int, **wishes) -> None:
        self.calls.append(("subscribe", wishes))

    def ack(self, client: int, seq: int) -> None:
        self.calls.append(("ack", seq))

    def unsubscribe(self, client: int, *, request: str | None) -> None:
        self.calls.append(("unsubscribe", request))


class FakeJudge:
    """Answers when the test says so, in the order it says."""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future] = {}

    async def judge(self, payload: str) -> bytes:
        answer = self.asked[payload] = asyncio.get_running_loop().create_future()
        return await answer


class Client:
    """The other end: sends messages, sees what the session sends past the pump."""

    def __init__(self, *, plain: bool = False, close_done: bool = True) -> None:
        self.pump, self.judge = FakePump(), FakeJudge()
        self.incoming: asyncio.Queue = asyncio.Queue()
        self.sent: list[dict] = []
        self.closing = Pending(done=close_done)
        self.receives = self.most_receives = 0
        self.session = Session(self.pump, self.judge, self._send, self._receive, form="plain" if plain else "json")
        self.pump.session = self.session
        self.task = asyncio.create_task(self.session.run())

    def _send(self, message):
        self.sent.append(message)
        return self.closing

    async def _receive(self):
        self.receives += 1
        self.most_receives = max(self.most_receives, self.receives)
        try:
            return await self.incoming.get()
        finally:
            self.receives -= 1

    async def says(self, text) -> None:
        text = text if isinstance(text, str | bytes) else json.dumps(text)
        key = "bytes" if isinstance(text, bytes) else "text"
        await self.incoming.put({"type": "websocket.receive", key: text})
        await settle()

    async def leaves(self) -> None:
        await self.incoming.put({"type": "websocket.disconnect", "code": 1006})
        async with asyncio.timeout(2):
            await self.task


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_client_that_goes_is_taken_from_the_pump_and_gets_no_close():
    client = Client()
    await client.leaves()
    assert client.pump.calls == [("detach", 7)]
    assert client.sent == []
    assert client.most_receives == 1


async def test_a_client_that_goes_while_the_pump_has_stopped_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(module, "_PUMP_TIMEOUT_S", 0.05)
    client = Client()
    client.pump.stopped = True
    await client.leaves()


async def test_a_stuck_client_is_closed_with_its_code_although_nothing_gets_through(monkeypatch):
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    client = Client(close_done=False)
    under_way = [Pending(done=False), Pending(done=True)]
    client.session.leave(Left(CloseCode.TOO_SLOW, "nothing was taken", under_way))
    async with asyncio.timeout(2):
        await client.task
    assert [p.cancelled for p in under_way] == [True, False]
    assert client.sent == [{"type": "websocket.close", "code": 4001, "reason": "nothing was taken"}]
    assert client.closing.cancelled
    assert client.receives == 0, "the one receive is given up with the session"


async def test_requests_go_to_the_pump():
    client = Client()
    await client.says({"type": "subscribe", "id": "x", "instruments": ["A"], "status": "VALID", "fromSeq": 3})
    await client.says({"type": "unsubscribe", "id": 2})
    assert client.pump.calls == [
        (
            "subscribe",
            {
                "request": '"x"',
                "instruments": ["A"],
                "statuses": [1],
                "from_seq": 3,
                "epoch": None,
                "snapshot": True,
                "latest": False,
                "max_rate_hz": None,
                "ack_bytes": None,
                "stages": False,
                "deflate": False,
            },
        ),
        ("unsubscribe", "2"),
    ]
    await client.leaves()


async def test_rubbish_is_answered_and_the_socket_lives():
    client = Client()
    for rubbish in ("{", b"\xff", '{"type":"fly"}', "x" * 70_000):
        await client.says(rubbish)
    assert [(m["type"], m["code"]) for m in client.pump.said] == [
        ("error", "malformed"),
        ("error", "malformed"),
        ("error", "unknown"),
        ("error", "too-big"),
    ]
    await client.says({"type": "ping", "t": 5})
    assert client.pump.said[-1]["type"] == "pong"
    await client.leaves()


async def test_verdicts_come_in_the_order_of_the_ticks_whatever_the_processor_does():
    client = Client()
    await client.says({"type": "tick", "id": 1, "instrumentId": "A", "price": 1, "volume": 1})
    await client.says({"type": "tick", "id": 2, "instrumentId": "B", "price": 1, "volume": 1})
    first, second = client.judge.asked.values()
    second.set_result(b'{"status":"VALID"}')
    await settle()
    assert client.pump.said == []
    first.set_exception(JudgeError("away", "the processor is away"))
    await settle()
    assert client.pump.said == [
        {"type": "error", "code": "away", "message": "the processor is away", "id": 1},
        {"type": "verdict", "id": 2, "trade": {"status": "VALID"}},
    ]
    await client.leaves()


async def test_plain_ticks_are_answered_by_bare_trades():
    client = Client(plain=True)
    await client.says('{"instrumentId":"A","price":1,"volume":2}')
    client.judge.asked['{"instrumentId":"A","price":1,"volume":2}'].set_result(b'{"status":"INVALID"}')
    await settle()
    await client.says("{broken")
    client.judge.asked["{broken"].set_exception(JudgeError("away", "the processor is away; try again"))
    await settle()
    assert client.pump.said[0] == {"status": "INVALID"}
    assert client.pump.said[1]["reason"] == "Processing error: the processor is away; try again"
    await client.leaves()


async def test_ticks_being_judged_are_bounded():
    client = Client()
    for n in range(module.MOST_TICKS_ASKED + 3):
        await client.says({"type": "tick", "id": n, "instrumentId": f"I{n}"})
    assert len(client.judge.asked) == module.MOST_TICKS_ASKED
    assert [m["code"] for m in client.pump.said] == ["busy"] * 3
    await client.leaves()


async def test_a_flood_is_ignored_with_one_word_and_ends_in_a_close():
    client = Client()
    ping = {"type": "websocket.receive", "text": '{"type":"ping","t":1}'}
    for _ in range(int(module.MESSAGES_AT_ONCE) + 50):
        client.incoming.put_nowait(ping)
    await settle()
    kinds = [m.get("code", m["type"]) for m in client.pump.said]
    assert kinds.count("pong") < module.MESSAGES_AT_ONCE + 25
    assert kinds.count("rate") == 1
    for _ in range(module.MOST_IGNORED + 100):
        client.incoming.put_nowait(ping)
    async with asyncio.timeout(5):
        await client.task
    assert client.sent[-1]["code"] == CloseCode.BAD_REQUEST


async def test_a_failure_while_listening_ends_the_session_in_order(caplog):
    client = Client()
    await client.incoming.put({"no": "type"})
    async with asyncio.timeout(2):
        await client.task
    assert client.pump.calls == [("detach", 7)]
    assert "listening failed" in caplog.text
