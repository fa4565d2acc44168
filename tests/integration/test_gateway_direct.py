"""Frames that go past the server into its sockets: only whole, only in order, and only where they belong."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs, wait_until

LONG = "x" * 300
PINGS = 200


@pytest.fixture
def feed(run_dir) -> Iterator[Feed]:
    made = Feed(run_dir, bytes=32 << 20)
    yield made
    made.close()


def sockets(gateway: Gateway) -> int:
    """Return how many descriptors of sockets the worker has."""
    (worker,) = gateway.workers()
    names = [Path(f"/proc/{worker}/fd/{name.name}") for name in Path(f"/proc/{worker}/fd").iterdir()]
    return sum(name.exists() and str(name.readlink()).startswith("socket:") for name in names)


async def test_clients_get_their_frames_directly_and_nothing_of_them_stays(
    programs: Programs, feed, run_dir, ws_connect
):
    gateway = Gateway.start(programs, run_dir)
    before = sockets(gateway)
    forms = ["tickcast.v1.json", "tickcast.v1.bin", None] * 5
    clients = [await ws_connect(gateway.ws, form) for form in forms]
    for client in clients:
        if client.socket.subprotocol:
            await client.subscribe()
    wait_until(lambda: gateway.counter("direct_clients") == len(forms), "each has its socket")
    held = gateway.counter("gil_ns")
    feed.add(1_000)
    for client in clients:
        if client.socket.subprotocol:
            while (await client.until("trades"))["toSeq"] < 1_000:
                pass
        else:
            while (await client.receive())["volume"] != "1000":
                pass
    assert gateway.counter("frames") > 1_000 * 5, "the plain ones got a message each"
    assert gateway.counter("gil_ns") - held < 50_000_000, "hardly any of it took the interpreter"
    for client in clients:
        await client.socket.close()
    wait_until(lambda: gateway.counter("direct_clients") == 0, "all are given back")
    wait_until(lambda: sockets(gateway) <= before, "their descriptors are closed")


async def test_without_it_the_server_sends_everything(programs: Programs, feed, run_dir, ws_connect):
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_DIRECT="false")
    client = await ws_connect(gateway.ws)
    await client.subscribe()
    feed.add(100)
    while (await client.until("trades"))["toSeq"] < 100:
        pass
    assert gateway.counter("direct_clients") == 0


class Rude:
    """A client that pings all the time, and reads when it likes; it looks at every byte."""

    def __init__(self, gateway: Gateway, number: int) -> None:
        self.random = random.Random(number)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        self.socket.connect(("127.0.0.1", gateway.port))
        self.socket.settimeout(20)
        self.socket.sendall(
            f"GET /ws/marketdata HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Protocol: tickcast.v1.json\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(1024)
        assert b" 101 " in self.buffer
        self.buffer = self.buffer.partition(b"\r\n\r\n")[2]
        self.say(Opcode.TEXT, b'{"type":"subscribe","snapshot":false}')
        self.covered: int | None = None
        self.pinged = self.ponged = 0

    def say(self, opcode: Opcode, payload: bytes) -> None:
        self.socket.sendall(Frame(opcode, payload).serialize(mask=True))

    def ping(self) -> None:
        self.pinged += 1
        self.say(Opcode.PING, b"%d" % self.pinged)

    def follow(self, to_seq: int) -> None:
        """Read up to a sequence, and all pongs; every message has to be whole and to follow the one before."""
        while self.covered is None or self.covered < to_seq or self.ponged < self.pinged:
            if self.pinged < PINGS:
                for _ in range(self.random.randrange(4)):
                    self.ping()
            self.take(*self.message())
            while self.random.random() < 0.02 and self.pinged < PINGS:
                self.ping()
                # Long enough for the kernel to fill: the server, and then the tape, has to keep what comes.
                self.pause()

    def pause(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            nobody.listen()
            nobody.settimeout(self.random.random() * 0.2)
            with pytest.raises(TimeoutError):
                nobody.accept()

    def message(self) -> tuple[int, bytes]:
        head = self.exactly(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
        assert size < 1 << 20, "that is no length of ours"
        return head[0], self.exactly(size)

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            more = self.socket.recv(self.random.choice((1_000, 100_000)))
            assert more, "the connection stays"
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def take(self, first: int, payload: bytes) -> None:
        if first == 0x80 | Opcode.PONG:
            # Answers may be left out, not mixed up (RFC 6455 §5.5.3).
            number = int(payload)
            assert self.ponged < number <= self.pinged
            self.ponged = number
            return
        assert first == 0x80 | Opcode.TEXT
        message = json.loads(payload)
        if message["type"] == "trades":
            assert self.covered is None or message["seq"] == self.covered + 1
            assert [int(trade["volume"]) for trade in message["trades"]] == list(
                range(message["seq"], message["toSeq"] + 1)
            )
            self.covered = message["toSeq"]


async def test_frames_of_two_writers_never_mix(programs: Programs, feed, run_dir):
    """The server answers pings on its own while the pump writes, and both find the kernel full again and again."""
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_HEARTBEAT_MS="20000")
    clients = [Rude(gateway, number) for number in range(8)]
    wait_until(lambda: gateway.counter("direct_clients") == len(clients), "each has its socket")
    head = 12_000

    async def write() -> None:
        while feed.writer.head < head:
            feed.add(200, note=LONG)
            await asyncio.sleep(0)

    async with asyncio.timeout(120):
        await asyncio.gather(write(), *(asyncio.to_thread(client.follow, head) for client in clients))
    assert [client.covered for client in clients] == [head] * len(clients)
    assert gateway.counter("not_done") > 0, "the kernel was full at times, and the server had what came next"
    assert gateway.counter("gaps") == 0
    for client in clients:
        client.socket.close()
