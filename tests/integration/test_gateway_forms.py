"""Forms and modes of `tickcast.v1` over a real gateway: the same trades in JSON, binary and compressed; the newest of
each instrument with every trade accounted for; windows of acknowledged bytes."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs
from fixtures.wsclient import Ledger, Message, WsClient

JSON, BINARY = "tickcast.v1.json", "tickcast.v1.bin"
STATUSES = ("VALID", "INVALID")


@pytest.fixture
def feed(run_dir) -> Iterator[Feed]:
    made = Feed(run_dir, enrichments=[("notional", "USD")])
    yield made
    made.close()


@pytest.fixture
def gateway(programs: Programs, feed: Feed, run_dir) -> Gateway:
    return Gateway.start(programs, run_dir)


class Account:
    """A model client: it knows what the feed writes, and adds up every range that it is told."""

    def __init__(self, feed: Feed, *, newest: bool, instruments: list[str] | None = None, status: str | None = None):
        self.feed, self.newest = feed, newest
        self.instruments, self.status = instruments, status
        self.covered = 0
        self.delivered = self.conflated = self.filtered = self.gapped = 0

    def wants(self, seq: int) -> bool:
        """Tell whether the feed's trade `seq` is subscribed to."""
        wanted = self.instruments is None or f"SYM{seq % self.feed.instruments}" in self.instruments
        return wanted and self.status in (None, "INVALID" if seq % 10 == 0 else "VALID")

    def add(self, message: Message) -> None:
        """Enter a message and check it against the model."""
        match message["type"]:
            case "subscribed" if message["granted"] is not None:
                self.newest = message["granted"]["mode"] == "latest"
                self.instruments = message["granted"]["instruments"]
                self.status = (message["granted"]["status"] or [None])[0]
                if self.covered == 0:
                    self.covered = message["granted"]["fromSeq"] - 1
                assert message["granted"]["fromSeq"] == self.covered + 1
            case "gap":
                self._cover(message["from"], message["to"])
                self.gapped += message["to"] - message["from"] + 1
            case "heartbeat":
                passed = range(self.covered + 1, message["seq"] + 1)
                assert not any(self.wants(seq) for seq in passed)
                self.filtered += len(passed)
                self.covered = max(self.covered, message["seq"])
            case "trades":
                self._trades(message)

    def _cover(self, seq: int, to_seq: int) -> None:
        assert seq == self.covered + 1, "ranges follow one another"
        self.covered = to_seq

    def _trades(self, message: Message) -> None:
        seq, to_seq = message["seq"], message["toSeq"]
        self._cover(seq, to_seq)
        came = message.get("seqs") or list(range(seq, to_seq + 1))
        assert [int(trade["volume"]) for trade in message["trades"]] == came
        wanted = [n for n in range(seq, to_seq + 1) if self.wants(n)]
        if self.newest:
            assert came == sorted({n % self.feed.instruments: n for n in wanted}.values())
            assert message["conflated"] == len(wanted) - len(came)
        else:
            assert came == wanted
            assert "conflated" not in message
        self.delivered += len(came)
        self.conflated += message.get("conflated", 0)
        self.filtered += to_seq - seq + 1 - len(wanted)

    def adds_up(self, first: int) -> bool:
        """Tell whether what came and what did not are all there was."""
        return self.delivered + self.conflated + self.filtered + self.gapped == self.covered - first + 1


async def collect(client: WsClient, account: Account, to_seq: int) -> list[Message]:
    """Enter messages until the account has covered a sequence; return them."""
    messages = []
    async with asyncio.timeout(30):
        while account.covered < to_seq:
            messages.append(await client.receive())
            account.add(messages[-1])
    return messages


async def test_json_binary_and_compressed_say_the_same(gateway, feed, ws_connect):
    feed.add(120)
    wish = {"fromSeq": 50, "stages": True}
    ways = [(JSON, {}), (BINARY, {}), (JSON, {"compress": "deflate-raw"}), (BINARY, {"compress": "deflate-raw"})]
    said = []
    for subprotocol, more in ways:
        client = await ws_connect(gateway.ws, subprotocol)
        granted = (await client.subscribe(**wish, **more))["granted"]
        assert granted["stages"] is True
        assert granted.get("compress") == more.get("compress")
        frame = await client.until("trades")
        assert all(int(ns) > 0 for ns in frame["stages"]["ingestNs"])
        assert all(sent >= tape for sent, tape in zip(frame["stages"]["sent"], frame["stages"]["tape"], strict=True))
        del frame["stages"]["sent"], frame["sentNs"]
        said.append((frame, client.raw_bytes))
    frames = [frame for frame, _ in said]
    assert (frames[0]["seq"], frames[0]["toSeq"]) == (50, 120)
    assert frames[1:] == [frames[0]] * 3
    sizes = [size for _, size in said]
    assert sizes[2] < sizes[0] / 2
    assert sizes[3] < sizes[1]


@pytest.mark.parametrize("subprotocol", [JSON, BINARY])
async def test_snapshots_come_in_every_form(gateway, feed, ws_connect, subprotocol):
    feed.add(25)
    client = await ws_connect(gateway.ws, subprotocol)
    await client.subscribe()
    snapshot = await client.until("snapshot")
    assert (snapshot["seq"], snapshot["toSeq"], snapshot["seqs"]) == (1, 25, [21, 22, 23, 24, 25])
    assert [trade["instrumentId"] for trade in snapshot["trades"]] == ["SYM1", "SYM2", "SYM3", "SYM4", "SYM0"]
    feed.add(5)
    assert (await client.until("trades"))["toSeq"] == 30


async def test_binary_clients_learn_what_the_dictionaries_get_while_they_are_connected(gateway, feed, ws_connect):
    early = await ws_connect(gateway.ws, BINARY)
    assert (await early.receive())["instruments"] == []
    await early.subscribe(snapshot=False)
    lazy = await ws_connect(gateway.ws, BINARY)
    await lazy.subscribe(instruments=["SYM3"], snapshot=False)
    feed.add(3)
    feed.instruments = 40
    head = feed.add(60)
    late = await ws_connect(gateway.ws, BINARY)
    assert len((await late.receive())["instruments"]) == 40
    await late.subscribe(fromSeq=1)
    for client, wish in ((early, None), (late, None), (lazy, "SYM3")):
        account = Ledger()
        while not account.sequences or account.sequences[-1] < (43 if wish else head):
            message = await client.receive()
            account.add(message)
            if message["type"] == "trades":
                assert all(wish in (None, trade["instrumentId"]) for trade in message["trades"])
        if wish is None:
            account.check()


@pytest.mark.parametrize("subprotocol", [JSON, BINARY])
async def test_every_trade_of_a_range_is_delivered_conflated_filtered_or_in_a_gap(
    gateway, feed, ws_connect, subprotocol
):
    """Clients with wishes of their own that change them again and again while the feed runs."""
    feed.add(100)

    async def live(number: int) -> None:
        draw = random.Random(number)
        client, account = await ws_connect(gateway.ws, subprotocol), Account(feed, newest=False)
        await client.receive()
        for turn in range(6):
            wish: Message = {"snapshot": False, "mode": draw.choice(["tape", "latest"])}
            if draw.random() < 0.7:
                wish["instruments"] = draw.sample(
                    ["SYM0", "SYM1", "SYM2", "SYM3", "SYM4", "NOBODY"], draw.randint(1, 3)
                )
            if draw.random() < 0.4:
                wish["status"] = draw.choice(STATUSES)
            if draw.random() < 0.5:
                wish["maxRateHz"] = draw.choice([5, 20, 50])
            if draw.random() < 0.3:
                wish["compress"] = "deflate-raw"
            if turn == 0:
                wish["fromSeq"] = first = draw.randint(1, 90)
            await client.send({"type": "subscribe", "id": turn, **wish})
            while (message := await client.receive()).get("id") != turn:
                account.add(message)
            account.add(message)
            granted = message["granted"]
            assert granted["mode"] == wish["mode"]
            assert granted.get("maxRateHz") == wish.get("maxRateHz")
            await collect(client, account, account.covered + draw.randint(1, 300))
            assert account.adds_up(first)
        assert account.gapped == 0
        assert account.delivered > 0
        client.socket.transport.abort()  # a polite end would wait for all that is on its way

    with feed.running(1_500):
        await asyncio.gather(*(live(number) for number in range(12)))


async def test_the_newest_of_each_instrument_come_at_the_rate_that_was_asked_for(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    granted = (await client.subscribe(mode="latest", maxRateHz=10, snapshot=False))["granted"]
    assert (granted["mode"], granted["maxRateHz"]) == ("latest", 10.0)
    account = Account(feed, newest=True)
    account.covered = granted["fromSeq"] - 1
    with feed.running(2_000):
        messages = await collect(client, account, 2_000)
    frames = [message for message in messages if message["type"] == "trades"]
    sent = [int(frame["sentNs"]) / 1e9 for frame in frames]
    assert len(frames) <= (sent[-1] - sent[0]) * 10 + 2
    assert all(len(frame["trades"]) <= feed.instruments for frame in frames)
    assert account.adds_up(1)
    assert account.conflated > account.delivered
    await collect(client, account, feed.writer.head)  # what came last is not left lying


async def test_a_client_that_conflates_catches_up_from_the_tape(gateway, feed, ws_connect):
    feed.add(5_000)
    client, account = await ws_connect(gateway.ws, BINARY), Account(feed, newest=True)
    granted = (await client.subscribe(mode="latest", fromSeq=1, instruments=["SYM2", "SYM4"]))["granted"]
    account.instruments, account.covered = granted["instruments"], 0
    await collect(client, account, 5_000)
    feed.add(500)
    await collect(client, account, 5_499)
    assert account.adds_up(1)
    assert (account.filtered, account.gapped) == (account.covered * 3 // 5, 0)


async def test_without_acks_nothing_more_comes_than_the_window_holds(gateway, feed, ws_connect):
    client, ledger = await ws_connect(gateway.ws), Ledger()
    granted = (await client.subscribe(ackBytes=65_536, snapshot=False))["granted"]
    assert granted["ackBytes"] == 65_536
    head = feed.add(2_000)
    before = client.raw_bytes
    async with asyncio.timeout(20):
        while (message := await client.receive())["type"] != "error":
            ledger.add(message)
    assert message["code"] == "slow"
    held = client.raw_bytes - before
    assert 65_536 * 3 / 4 < held <= 65_536 + len(message["message"]) + 5_000
    ledger.check()
    covered = ledger.sequences[-1]
    assert covered < head
    async with asyncio.timeout(20):
        while covered < head:
            await client.send({"type": "ack", "seq": covered})
            ledger.add(message := await client.receive())
            covered = message.get("toSeq", covered)
    ledger.check()
    assert gateway.counter("evicted") == 0


async def test_a_client_that_never_acks_is_warned_and_then_closed(gateway, feed, ws_connect):
    silent, quick, ledger = await ws_connect(gateway.ws), await ws_connect(gateway.ws), Ledger()
    await silent.subscribe(ackBytes=16_384, snapshot=False)
    await quick.subscribe(snapshot=False)
    head = feed.add(5_000)
    assert (await silent.until("error"))["code"] == "slow"
    assert (await silent.closed())[0] == 4001
    assert gateway.counter("warned") == 1
    while not ledger.sequences or ledger.sequences[-1] < head:
        ledger.add(await quick.receive())
    ledger.check()


async def test_wishes_that_cannot_be_are_answered(gateway, feed, ws_connect):
    client = await ws_connect(gateway.ws)
    for wrong in ({"maxRateHz": 0}, {"ackBytes": 0}, {"mode": "some"}, {"compress": "gzip"}, {"stages": 1}):
        await client.send({"type": "subscribe", **wrong})
        assert (await client.until("error"))["code"] == "malformed"
    await client.send({"type": "ack", "seq": -1})
    assert (await client.until("error"))["code"] == "malformed"
    granted = (await client.subscribe(ackBytes=1, maxRateHz=1e9, snapshot=False))["granted"]
    assert (granted["ackBytes"], granted["maxRateHz"]) == (16_384, 1000.0)
