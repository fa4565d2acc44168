"""What the pump relies on of Granian, and ASGI does not promise; a new Granian has to pass this before it is let in."""

import asyncio
import os
import signal
import socket
import struct
import urllib.request
from pathlib import Path

import msgspec
import pytest
import websockets

from fixtures.processes import Program, Programs, free_port, lives, wait_until

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Server:
    """A real Granian over the probing application."""

    def __init__(self, programs: Programs) -> None:
        self.port = free_port()
        options = ("--runtime-mode", "st", "--loop", "uvloop", "--backlog", "8192", "--respawn-failed-workers")
        self.program: Program = programs.python(
            "-m", "granian", "--interface", "asgi", "contract_app:app", "--port", str(self.port), *options, cwd=FIXTURES
        )
        wait_until(self._answers, "granian answers")

    def _answers(self) -> bool:
        try:
            self.report()
        except OSError:
            return False
        return True

    def report(self) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/report", timeout=5) as answer:
            return msgspec.json.decode(answer.read())

    def ws(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def worker(self) -> int:
        pid = self.program.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def has_another_worker(self, than: int) -> bool:
        try:
            return self.worker() != than
        except (IndexError, OSError):
            return False


@pytest.fixture
def server(programs: Programs) -> Server:
    return Server(programs)


def raw_socket(server: Server, path: str, receive_buffer: int | None = None) -> socket.socket:
    """Shake hands by hand: a client that can be as rude as it has to be."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in sock.recv(512)
    return sock


async def test_messages_begun_from_a_thread_and_not_awaited_arrive_in_order(server):
    async with websockets.connect(server.ws("/order"), compression=None) as client, asyncio.timeout(20):
        got = [await client.recv() for _ in range(2000)]
        assert got == [str(n) for n in range(2000)]
        assert await client.recv() == "all done", "done() becomes true for every one of them"
        ends = ["127.0.0.1", client.local_address[1], server.port]
    assert server.report()["unawaited"] is True
    assert server.report()["ends"] == ends, "by these the pump finds the socket"


def test_a_client_that_does_not_read_keeps_done_false_and_the_recipe_frees_it(server):
    with raw_socket(server, "/stall", receive_buffer=8192):
        report = wait_until(lambda: server.report().get("stall"), "the stuck client is given up")
    assert report["done"] is False
    assert report["mebibytes"] < 50, "the kernel's buffers are bounded"
    assert report["seconds"] < 2


def test_a_vanished_client_is_told_by_the_pending_receive_alone(server):
    sock = raw_socket(server, "/vanish")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()  # a reset, no close frame
    report = wait_until(lambda: server.report().get("vanish"), "the vanished client is noticed")
    assert report == ["websocket.disconnect", False], "sending on raises nothing"


async def test_clients_are_taken_leave_of_before_granian_stops(server):
    async with websockets.connect(server.ws("/stay"), compression=None) as client, asyncio.timeout(20):
        assert await client.recv() == "hello"
        server.program.signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None, "a close frame came"
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "going down")
    assert await asyncio.to_thread(server.program.wait) == 0


def test_a_killed_worker_is_replaced(server):
    before = server.worker()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not lives(before) and server.has_another_worker(before), "a new worker")
    wait_until(server._answers, "the new worker answers")


def test_a_second_death_within_seconds_stops_granian(server):
    """Whoever supervises the main process has to start it again."""
    for _ in range(2):
        worker = server.worker()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: not lives(worker), "the worker is dead")
        wait_until(
            lambda worker=worker: not lives(server.program.pid) or server.has_another_worker(worker),
            "a new worker, or the end",
        )
    assert server.program.wait() == 1
    assert any("crash loop" in line for line in server.program.errors + server.program.lines)
