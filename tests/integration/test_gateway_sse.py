"""`/sse/marketdata` over a real gateway: every trade once, resumed by `Last-Event-ID`, in the socket's messages."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from signal import SIGTERM

import pytest

from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs, wait_until
from fixtures.wsclient import Ledger


@pytest.fixture
def feed(run_dir) -> Iterator[Feed]:
    made = Feed(run_dir)
    yield made
    made.close()


@pytest.fixture
def gateway(programs: Programs, feed: Feed, run_dir) -> Gateway:
    return Gateway.start(programs, run_dir)


class Events:
    """A reader of server-sent events, as the standard has them."""

    def __init__(self, gateway: Gateway, query: str = "", last: str = "") -> None:
        self.connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        headers = {"last-event-id": last} if last else {}
        self.connection.request("GET", "/sse/marketdata" + query, headers=headers)
        self.answer = self.connection.getresponse()
        self.last = last

    def next(self) -> dict:
        """Return the next message."""
        fields: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            if not line:
                raise EOFError
            if line == "\n":
                if "data" in fields:
                    break
                fields = {}
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
        self.last = fields.get("id", self.last)
        message = json.loads(fields["data"])
        assert message["type"] == fields["event"]
        return message

    def until(self, kind: str) -> dict:
        """Return the next message of a type."""
        while (message := self.next())["type"] != kind:
            pass
        return message

    def close(self) -> None:
        self.connection.close()


def test_a_stream_begins_with_hello_and_snapshot_and_goes_on_live(gateway, feed):
    feed.add(25)
    events = Events(gateway)
    assert events.answer.headers["content-type"].startswith("text/event-stream")
    hello, snapshot = events.next(), events.next()
    assert (hello["type"], hello["epoch"], hello["seq"]) == ("hello", feed.writer.epoch, 25)
    assert (snapshot["type"], snapshot["toSeq"], snapshot["seqs"]) == ("snapshot", 25, [21, 22, 23, 24, 25])
    feed.add(10)
    trades = events.until("trades")
    assert (trades["seq"], trades["toSeq"], len(trades["trades"])) == (26, 35, 10)
    assert events.last == f"{feed.writer.epoch}:35"
    events.close()


def test_a_client_that_comes_and_goes_gets_every_trade_once(gateway, feed):
    feed.add(10)
    ledger, last = Ledger(), ""
    with feed.running(3_000):
        for stop in (200, 700, 1_500):
            events = Events(gateway, "?from_seq=1" if not last else "", last)
            while not ledger.sequences or ledger.sequences[-1] < stop:
                ledger.add(events.next())
            last = events.last
            events.close()
    ledger.check()
    assert ledger.sequences[0] == 1


def test_filters_heartbeats_and_gaps_are_those_of_the_socket(gateway, feed):
    feed.add(40)
    events = Events(gateway, "?from_seq=1&instrument=SYM0&instrument=SYM3&status=VALID")
    trades = events.until("trades")
    assert (trades["seq"], trades["toSeq"]) == (1, 40)
    assert trades["seqs"] == [n for n in range(1, 41) if n % 5 in (0, 3) and n % 10]
    assert events.until("heartbeat")["seq"] == 40
    events.close()
    strange = Events(gateway, "?snapshot=false", "0123456789abcdef:7")
    strange.until("hello")
    assert strange.next() == {"type": "gap", "from": 1, "to": 40, "why": "epoch"}
    strange.close()
    while gateway.json("/api/trades?limit=1")["oldest"] < 1_000:
        feed.add(1_000, note="x" * 500)
    late = Events(gateway, "?from_seq=5")
    gap, snapshot = late.until("gap"), late.next()
    assert (gap["from"], gap["to"], gap["why"]) == (5, feed.writer.head, "overrun")
    assert snapshot["toSeq"] == gap["to"]
    late.close()


def test_wrong_wishes_are_refused_and_streams_end_with_the_gateway(gateway, feed):
    for wrong in ("?from_seq=0", "?status=GOOD", "?from_seq=x"):
        assert gateway.get("/sse/marketdata" + wrong)[0] == 400
    feed.add(3)
    events = Events(gateway)
    events.until("snapshot")
    assert gateway.json("/api/status")["gateway"]["eventStreams"] == 1
    gone = Events(gateway)
    gone.until("snapshot")
    gone.close()
    wait_until(lambda: gateway.json("/api/status")["gateway"]["eventStreams"] == 1, "one has gone")
    gateway.program.signal(SIGTERM)
    bye = events.until("bye")
    assert (bye["code"], bye["retryAfterMs"]) == (4000, 250)
    with pytest.raises(EOFError):
        events.next()
