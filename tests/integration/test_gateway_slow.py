"""Clients that don't keep up: they cost the gateway and the others nothing, and are told, or cut off."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from fixtures.gateway import Feed, Gateway
from fixtures.processes import wait_until
from fixtures.wsclient import Ledger

LONG = "x" * 900


class Stalled:
    """A client that shakes hands, subscribes, and then does not read."""

    def __init__(self, gateway: Gateway, *, plain: bool = False) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.socket.connect(("127.0.0.1", gateway.port))
        self.socket.settimeout(20)
        offer = "" if plain else "Sec-WebSocket-Protocol: tickcast.v1.json\r\n"
        self.socket.sendall(
            f"GET /ws/marketdata HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nUpgrade: websocket\r\n{offer}"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.socket.recv(1024)
        assert b" 101 " in self._buffer
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
        if not plain:
            self.socket.sendall(Frame(Opcode.TEXT, b'{"type":"subscribe"}').serialize(mask=True))

    def messages(self):
        """Read on: yield messages until the connection ends, the close code last."""
        while True:
            head = self._take(2)
            size = head[1]
            if size == 126:
                size = int.from_bytes(self._take(2), "big")
            elif size == 127:
                size = int.from_bytes(self._take(8), "big")
            body = self._take(size)
            if head[0] & 15 == Opcode.CLOSE:
                yield int.from_bytes(body[:2], "big")
                return
            yield json.loads(body)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


@pytest.fixture(params=["true", "false"], ids=["direct", "by the server"], autouse=True)
def way(request, monkeypatch) -> None:
    """Frames go to clients in two ways; both have to keep what is promised."""
    monkeypatch.setenv("TICKCAST_WEB_DIRECT", request.param)


@pytest.fixture
def feed(run_dir):
    made = Feed(run_dir, bytes=48 << 20)
    yield made
    made.close()


def rss_mib(gateway: Gateway) -> float:
    pages = int(Path(f"/proc/{gateway.workers()[0]}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def test_a_slow_client_that_is_overtaken_gets_gap_and_snapshot_and_goes_on(programs, feed, run_dir, ws_connect):
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_HEARTBEAT_MS="20000")
    stalled = Stalled(gateway)
    quick, ledger = await ws_connect(gateway.ws), Ledger()
    await quick.subscribe()
    before = None
    async with asyncio.timeout(60):
        while gateway.counter("overruns") == 0 and gateway.json("/api/trades?limit=1")["oldest"] < 60_000:
            head = feed.add(1_000, note=LONG)
            while not ledger.sequences or ledger.sequences[-1] < head:
                ledger.add(await quick.receive())
            before = before or rss_mib(gateway)
    ledger.check()  # the quick one never noticed
    assert rss_mib(gateway) - before < 64, "what a client does not take stays on the tape"

    def read_on() -> tuple[int, list, list]:
        covered, gaps, snapshots = 0, [], []
        for message in stalled.messages():
            match message["type"]:
                case "snapshot":
                    snapshots.append(message)
                    covered = message["toSeq"]
                case "gap":
                    assert message["from"] == covered + 1
                    gaps.append(message)
                case "trades":
                    assert message["seq"] == covered + 1
                    covered = message["toSeq"]
            if covered >= feed.writer.head:
                return covered, gaps, snapshots

    covered, gaps, snapshots = await asyncio.to_thread(read_on)
    assert covered == feed.writer.head
    assert [gap["why"] for gap in gaps] == ["overrun"]
    assert len(snapshots) == 2
    assert gaps[0]["to"] == snapshots[1]["toSeq"]
    assert gateway.counter("overruns") == 1


async def test_a_client_that_takes_nothing_is_cut_off_and_the_others_go_on(programs, feed, run_dir, ws_connect):
    gateway = Gateway.start(programs, run_dir)  # three heartbeats are 600 ms
    stalled = [Stalled(gateway) for _ in range(3)]
    quick, ledger = await ws_connect(gateway.ws), Ledger()
    await quick.subscribe()
    async with asyncio.timeout(40):
        while gateway.counter("evicted") < 3:
            head = feed.add(500, note=LONG)
            while not ledger.sequences or ledger.sequences[-1] < head:
                ledger.add(await quick.receive())
    ledger.check()
    wait_until(lambda: gateway.json("/api/status")["gateway"]["clients"] == 1, "the stuck ones are gone")
    for client in stalled:
        with pytest.raises((EOFError, ConnectionError)):  # no close frame fits behind what it did not read
            for _ in client.messages():
                pass


async def test_a_plain_client_that_falls_behind_loses_the_oldest_and_they_are_counted(programs, feed, run_dir):
    gateway = Gateway.start(
        programs, run_dir, TICKCAST_WEB_HEARTBEAT_MS="20000", TICKCAST_WEB_MAX_BACKLOG_BYTES="200000"
    )
    stalled = Stalled(gateway, plain=True)
    wait_until(lambda: gateway.counter("plain_clients") == 1, "the client is there")
    while gateway.counter("dropped") == 0:
        feed.add(1_000, note=LONG)
    head = feed.writer.head

    def read_on() -> list[int]:
        got = []
        for message in stalled.messages():
            got.append(int(message["volume"]))
            if got[-1] == head:
                return got

    got = await asyncio.to_thread(read_on)
    assert got == sorted(set(got)), "in order, none doubled"
    assert gateway.counter("dropped") == head - len(got), "delivered and counted are all there was"
    assert got[-1_000:] == list(range(head - 999, head + 1)), "the newest are there"
