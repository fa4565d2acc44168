"""Trades over a real gateway: every one once, whatever the client asks for, wherever it was."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs
from fixtures.wsclient import Ledger, WsClient


@pytest.fixture(params=["true", "false"], ids=["direct", "by the server"], autouse=True)
def way(request, monkeypatch) -> None:
    """Frames go to clients in two ways; both have to keep what is promised."""
    monkeypatch.setenv("TICKCAST_WEB_DIRECT", request.param)


@pytest.fixture
def feed(run_dir) -> Iterator[Feed]:
    made = Feed(run_dir)
    yield made
    made.close()


@pytest.fixture
def gateway(programs: Programs, feed: Feed, run_dir) -> Gateway:
    return Gateway.start(programs, run_dir)


async def collect(client: WsClient, ledger: Ledger, to_seq: int) -> None:
    """Enter messages into the ledger until the tape is covered up to a sequence."""
    covered = 0
    while covered < to_seq:
        message = await client.receive()
        ledger.add(message)
        if message["type"] == "trades":
            assert covered in (0, message["seq"] - 1), "ranges follow one another"
        covered = max(covered, message.get("toSeq", message.get("seq", 0) if message["type"] == "heartbeat" else 0))


async def test_a_connection_goes_as_the_protocol_says(gateway, feed, ws_connect):
    feed.add(25)
    client = await ws_connect(gateway.ws)
    hello = await client.receive()
    assert (hello["type"], hello["epoch"], hello["seq"]) == ("hello", feed.writer.epoch, 25)
    assert hello["instruments"] == ["SYM1", "SYM2", "SYM3", "SYM4", "SYM0"]
    assert hello["reasons"] == ["Too far"]
    assert (hello["enrichments"], hello["heartbeatMs"]) == ([], 200)
    assert hello["server"].startswith("tickcast/")
    await client.send({"type": "subscribe", "id": "mine"})
    subscribed = await client.receive()
    assert (subscribed["type"], subscribed["id"]) == ("subscribed", "mine")
    granted = {"mode": "tape", "instruments": None, "status": None, "fromSeq": 26, "snapshot": True}
    assert subscribed["granted"] == granted
    status = await client.receive()
    assert (status["type"], status["source"], status["state"], status["since"]) == ("status", "sim://", "live", "1")
    snapshot = await client.receive()
    assert (snapshot["type"], snapshot["toSeq"], snapshot["seqs"]) == ("snapshot", 25, [21, 22, 23, 24, 25])
    assert [trade["volume"] for trade in snapshot["trades"]] == ["21", "22", "23", "24", "25"]
    feed.add(10)
    frame = await client.until("trades")
    assert (frame["seq"], frame["toSeq"], frame.get("seqs")) == (26, 35, None)
    assert frame["trades"][4] == {**frame["trades"][4], "volume": "30", "status": "INVALID", "reason": "Too far"}
    assert int(frame["sentNs"]) > int(frame["trades"][0]["timestampNs"])


async def test_nothing_but_hello_comes_before_a_subscribe(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    assert (await client.receive())["type"] == "hello"
    feed.add(50)
    feed.board(source={"url": "sim://", "state": "ended", "since": 2})
    with pytest.raises(TimeoutError):
        await client.receive(timeout_s=0.6)  # three heartbeats long
    await client.send({"type": "ping", "t": {"any": "thing"}})
    pong = await client.receive()
    assert (pong["type"], pong["t"]) == ("pong", {"any": "thing"})


async def test_every_trade_comes_once_to_clients_that_come_and_go(gateway, feed, ws_connect):
    feed.add(100)
    ledgers = [Ledger() for _ in range(5)]

    async def follow(ledger: Ledger, subscribe_from: int, stops: list[int]) -> None:
        next_seq, epoch = subscribe_from, feed.writer.epoch
        for stop in stops:
            client = await WsClient.connect(gateway.ws)
            await client.subscribe(fromSeq=next_seq, epoch=epoch)
            await collect(client, ledger, stop)
            next_seq = ledger.sequences[-1] + 1
            await client.close()

    with feed.running(2_000):
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(follow(ledger, 1 + 20 * n, [300 + 50 * n, 700, 1_100, 2_000]) for n, ledger in enumerate(ledgers))
            )
    for n, ledger in enumerate(ledgers):
        ledger.check()
        assert ledger.sequences[0] == 1 + 20 * n


async def test_late_joiners_go_live_right_after_their_snapshot(gateway, feed, ws_connect):
    with feed.running(3_000):
        for _ in range(8):
            client = await ws_connect(gateway.ws)
            await client.send({"type": "subscribe"})
            subscribed = await client.until("subscribed")
            snapshot = await client.until("snapshot")
            frame = await client.until("trades")
            assert subscribed["granted"]["fromSeq"] == snapshot["toSeq"] + 1 == frame["seq"]
            for trade, seq in zip(snapshot["trades"], snapshot["seqs"], strict=True):
                assert trade["volume"] == str(seq)
                # Newest VALID of its instrument: nothing between it and the end of the snapshot.
                between = range(seq + feed.instruments, snapshot["toSeq"] + 1, feed.instruments)
                assert all(later % 10 == 0 for later in between)


async def test_filters_leave_out_what_they_say_and_number_the_rest(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    answer = await client.subscribe(instruments=["SYM0", "NOT YET"], status="INVALID", fromSeq=1)
    assert answer["granted"]["instruments"] == ["NOT YET", "SYM0"]
    assert answer["granted"]["status"] == ["INVALID"]
    got: list[int] = []
    covered = 0
    for _ in range(20):
        feed.add(7)
    async with asyncio.timeout(10):
        while covered < 140:
            message = await client.receive()
            if message["type"] == "trades":
                assert message["seq"] == covered + 1
                got += message["seqs"]
                assert [trade["volume"] for trade in message["trades"]] == [str(seq) for seq in message["seqs"]]
                covered = message["toSeq"]
            elif message["type"] == "heartbeat":
                covered = max(covered, message["seq"])
    assert got == [seq for seq in range(1, 141) if seq % 10 == 0]


async def test_a_heartbeat_moves_the_place_to_resume_from(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    await client.subscribe(instruments=["NOBODY"], snapshot=False)
    feed.add(30)
    async with asyncio.timeout(5):
        while (await client.until("heartbeat"))["seq"] < 30:
            pass


async def test_another_subscribe_replaces_the_first_and_unsubscribe_ends_it(gateway, feed, ws_connect):
    feed.add(20)
    client = await ws_connect(gateway.ws)
    await client.subscribe(id=1, instruments=["SYM1"], snapshot=False)
    await client.subscribe(id=2, fromSeq=11)
    frame = await client.until("trades")
    assert (frame["seq"], frame["toSeq"]) == (11, 20)
    await client.send({"type": "unsubscribe", "id": 3})
    assert await client.until("subscribed") == {"type": "subscribed", "id": 3, "granted": None}
    feed.add(5)
    with pytest.raises(TimeoutError):
        await client.until("trades", timeout_s=0.5)


async def test_a_place_on_another_epoch_or_beyond_the_head_gets_gap_and_snapshot(gateway, feed, ws_connect):
    feed.add(12)
    for wish in ({"epoch": "0123456789abcdef", "fromSeq": 3}, {"fromSeq": 5_000}):
        client = await ws_connect(gateway.ws)
        answer = await client.subscribe(**wish)
        assert answer["granted"]["fromSeq"] == 13
        assert await client.until("gap") == {"type": "gap", "from": 1, "to": 12, "why": "epoch"}
        assert (await client.until("snapshot"))["toSeq"] == 12


async def test_a_place_that_is_off_the_tape_gets_gap_and_snapshot(gateway, feed, ws_connect):
    while gateway.json("/api/trades?limit=1")["oldest"] < 1_000:
        feed.add(2_000, note="x" * 500)
    feed.add(5)
    head = feed.writer.head
    client = await ws_connect(gateway.ws)
    await client.subscribe(fromSeq=7, epoch=feed.writer.epoch)
    assert await client.until("gap") == {"type": "gap", "from": 7, "to": head, "why": "overrun"}
    assert (await client.until("snapshot"))["toSeq"] == head
    feed.add(3)
    assert (await client.until("trades"))["seq"] == head + 1
    silent = await ws_connect(gateway.ws)
    await silent.subscribe(fromSeq=7, snapshot=False)
    await silent.until("gap")
    feed.add(1)
    assert (await silent.receive())["type"] == "trades"


async def test_rubbish_is_answered_and_the_stream_goes_on(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    await client.subscribe()
    for rubbish, code in (("{", "malformed"), ('{"type":"fly"}', "unknown"), ("x" * 100_000, "too-big")):
        await client.send(rubbish)
        assert (await client.until("error"))["code"] == code
    await client.socket.send(b"\xff\x00")
    assert (await client.until("error"))["code"] == "malformed"
    feed.add(1)
    assert (await client.until("trades"))["toSeq"] == 1


async def test_the_plain_form_is_one_bare_trade_a_message_from_now_on(gateway, feed, ws_connect):
    feed.add(10)
    client = await ws_connect(gateway.ws, subprotocol=None)
    await asyncio.to_thread(wait_for_plain, gateway)
    feed.add(300)
    got = [await client.receive() for _ in range(300)]
    assert [trade["volume"] for trade in got] == [str(n) for n in range(11, 311)]
    assert set(got[0]) == {"tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "vwap20m"}
    assert got[9]["reason"] == "Too far"


def wait_for_plain(gateway: Gateway) -> None:
    while gateway.counter("plain_clients") != 1:
        pass


async def test_a_tick_without_a_processor_is_answered_not_dropped(gateway, ws_connect):
    v1 = await ws_connect(gateway.ws)
    await v1.send({"type": "tick", "id": 9, "instrumentId": "AAPL", "price": 1.5, "volume": 10})
    error = await v1.until("error")
    assert (error["code"], error["id"]) == ("away", 9)
    plain = await ws_connect(gateway.ws, subprotocol=None)
    await plain.send('{"instrumentId":"AAPL","price":1.5,"volume":10}')
    trade = await plain.receive()
    assert (trade["instrumentId"], trade["status"], trade["tradeId"]) == ("AAPL", "INVALID", "")
    assert trade["reason"].startswith("Processing error: ")


async def test_verdicts_come_from_the_processor_to_the_sender_alone(gateway, run_dir, ws_connect):
    async def processor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = msgspec.json.decode(line)
            tick = msgspec.json.decode(request["payload"])
            reply = {"id": request["id"], "trade": {"instrumentId": tick["instrumentId"], "status": "VALID"}}
            writer.write(msgspec.json.encode(reply) + b"\n")

    server = await asyncio.start_unix_server(processor, str(run_dir / "control.sock"))
    asker, other, plain = await ws_connect(gateway.ws), await ws_connect(gateway.ws), await ws_connect(gateway.ws, None)
    await asker.send({"type": "tick", "id": 1, "instrumentId": "AAPL", "price": 1, "volume": 1})
    verdict = await asker.until("verdict")
    assert verdict == {"type": "verdict", "id": 1, "trade": {"instrumentId": "AAPL", "status": "VALID"}}
    await plain.send('{"instrumentId":"MSFT","price":1,"volume":1}')
    assert await plain.receive() == {"instrumentId": "MSFT", "status": "VALID"}
    await other.send({"type": "ping", "t": 0})
    assert [(await other.receive())["type"] for _ in range(2)] == ["hello", "pong"]
    server.close()
