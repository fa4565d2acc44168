"""Tapes, processors, workers and gateways come and go; clients go on."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fixtures.gateway import Feed, Gateway, settings
from fixtures.processes import Programs, free_port, lives, wait_until
from fixtures.wsclient import Ledger, WsClient


class Follower:
    """A client as the protocol has it: comes back with its place until it is told to stop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ledger = Ledger()
        self.connections = 0
        self.epochs: list[str] = []
        self.next_seq: int | None = None
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                await self._connect()
            await asyncio.sleep(0.05)

    async def _connect(self) -> None:
        client = await WsClient.connect(self.url)
        self.connections += 1
        epoch = (await client.until("hello"))["epoch"]
        if epoch not in self.epochs:
            self.epochs.append(epoch)
            self.next_seq = self.next_seq if not epoch else 1
        await client.send({"type": "subscribe", "epoch": epoch, "fromSeq": self.next_seq, "snapshot": False})
        while True:
            message = await client.receive()
            self.ledger.add(message)
            self.next_seq = message.get("toSeq", message.get("to", (self.next_seq or 1) - 1)) + 1

    async def reach(self, seq: int) -> None:
        """Wait until a sequence has come."""
        async with asyncio.timeout(30):
            while not self.ledger.sequences or self.ledger.sequences[-1] < seq:
                assert not self._task.done()
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def followers() -> AsyncIterator[list[Follower]]:
    made: list[Follower] = []
    yield made
    for follower in made:
        await follower.close()


async def test_a_gateway_without_a_tape_waits_for_it(programs: Programs, run_dir, ws_connect):
    gateway = Gateway.start(programs, run_dir)
    assert gateway.get("/health")[0] == 200
    assert gateway.get("/health/ready")[0] == 503
    client, plain = await ws_connect(gateway.ws), await ws_connect(gateway.ws, None)
    hello = await client.receive()
    assert (hello["epoch"], hello["seq"], hello["instruments"]) == ("", 0, [])
    answer = await client.subscribe(epoch="", fromSeq=1)
    assert answer["granted"]["fromSeq"] == 1
    assert (await client.until("status"))["state"] == "waiting"
    assert (await client.until("heartbeat"))["seq"] == 0
    feed = Feed(run_dir)
    feed.add(40)
    assert (await client.until("hello"))["epoch"] == feed.writer.epoch
    ledger = Ledger()
    async with asyncio.timeout(10):
        while not ledger.sequences or ledger.sequences[-1] < 40:
            ledger.add(await client.receive())
    ledger.check()
    assert ledger.sequences[0] == 1
    assert [(await plain.receive())["volume"] for _ in range(40)] == [str(n) for n in range(1, 41)]
    assert gateway.get("/health/ready")[0] == 200
    feed.close()


async def test_a_new_tape_is_announced_and_followed_from_its_first_trade(programs, run_dir, ws_connect):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir)
    client = await ws_connect(gateway.ws)
    await client.subscribe()
    feed.add(30)
    old_epoch = feed.writer.epoch
    feed.close()
    feed = Feed(run_dir, fresh=True)
    feed.add(20)
    assert feed.writer.epoch != old_epoch
    before = await client.until("trades")
    assert (before["seq"], before["toSeq"]) == (1, 30), "the old one is read to its end"
    assert (await client.until("hello"))["epoch"] == feed.writer.epoch
    assert (await client.until("snapshot"))["toSeq"] == 0
    frame = await client.until("trades")
    assert (frame["seq"], frame["toSeq"]) == (1, 20)
    assert gateway.json("/api/trades?from_seq=1")["epoch"] == feed.writer.epoch
    feed.close()


async def test_a_writer_that_takes_the_tape_up_again_goes_unnoticed(programs, run_dir, followers):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir)
    followers.append(Follower(gateway.ws))
    for n in range(1, 4):
        feed.add(50)
        await followers[0].reach(50 * n)
        feed.close()
        feed = Feed(run_dir)
    followers[0].ledger.check()
    assert (followers[0].connections, len(followers[0].epochs)) == (1, 1)
    feed.close()


async def test_a_processor_that_shows_no_sign_of_life_is_stale_and_live_again(programs, run_dir, ws_connect):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir, TICKCAST_READY_REQUIRE_FRESH="true")
    client = await ws_connect(gateway.ws)
    await client.subscribe()
    assert (await client.until("status"))["state"] == "live"
    feed.board(heartbeatNs=time.time_ns() - 3 * 10**9)
    stale = await client.until("status")
    assert (stale["state"], stale["source"]) == ("stale", "sim://")
    status, body, _ = gateway.get("/health/ready")
    assert status == 503
    assert b"the processor is stale" in body
    feed.board(source={"url": "nats://x/ticks", "state": "reconnecting", "since": 5})
    assert (await client.until("status"))["state"] == "reconnecting"
    feed.board()
    assert (await client.until("status"))["state"] == "live"
    assert gateway.get("/health/ready")[0] == 200
    ended = programs.python("-c", "pass")
    ended.wait()
    feed.board(pid=ended.pid)
    assert (await client.until("status"))["state"] == "stale", "its process is gone: that is known at once"
    feed.close()


async def test_a_killed_worker_is_replaced_and_nothing_is_missed(programs, run_dir, followers):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir)
    followers += [Follower(gateway.ws) for _ in range(10)]
    with feed.running(1_000):
        await asyncio.gather(*(f.reach(300) for f in followers))
        (worker,) = gateway.workers()
        os.kill(worker, signal.SIGKILL)
        await asyncio.gather(*(f.reach(feed.writer.head + 1_500) for f in followers))
    for follower in followers:
        follower.ledger.check()
        assert follower.connections == 2
    assert gateway.workers() != [worker]
    assert lives(gateway.program.pid)
    feed.close()


async def test_a_killed_gateway_leaves_nothing_behind_and_its_successor_goes_on(programs, run_dir, followers):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_WORKERS="2")
    followers += [Follower(gateway.ws) for _ in range(5)]
    with feed.running(1_000):
        await asyncio.gather(*(f.reach(200) for f in followers))
        workers = gateway.workers()
        os.kill(gateway.program.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(lives, workers)), "the workers end with their main process")
        (run_dir / "gateway.json").unlink()
        Gateway.start(programs, run_dir, port=gateway.port)
        await asyncio.gather(*(f.reach(feed.writer.head + 500) for f in followers))
    for follower in followers:
        follower.ledger.check()
    feed.close()


async def test_an_orderly_end_tells_every_client(programs, run_dir, ws_connect):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir)
    v1, plain = await ws_connect(gateway.ws), await ws_connect(gateway.ws, None)
    unsubscribed = await ws_connect(gateway.ws)
    await v1.subscribe()
    with feed.running(1_000):
        await v1.until("trades")
        await plain.receive()
        gateway.program.signal(signal.SIGTERM)
        bye = await v1.until("bye")
        assert (bye["code"], bye["reason"]) == (4000, "the gateway is going down")
        assert bye["retryAfterMs"] > 0
        assert await v1.closed() == (4000, "the gateway is going down")
        assert (await unsubscribed.until("bye"))["code"] == 4000
        assert await plain.closed() == (1001, "the gateway is going down")
        assert await asyncio.to_thread(gateway.program.wait, 10) == 0
    feed.close()


async def test_a_client_that_does_not_read_does_not_hold_the_end_up(programs, run_dir, ws_connect):
    feed = Feed(run_dir, bytes=48 << 20)
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_HEARTBEAT_MS="20000")
    client = await ws_connect(gateway.ws)
    await client.subscribe()
    client.socket.transport.pause_reading()
    while gateway.counter("not_done") == 0:
        feed.add(1_000, note="x" * 900)
    started = time.monotonic()
    assert await asyncio.to_thread(gateway.program.end) == 0
    assert time.monotonic() - started < 6
    client.socket.transport.abort()
    feed.close()


def test_a_second_gateway_of_a_run_directory_is_refused_in_one_line(programs, run_dir):
    gateway = Gateway.start(programs, run_dir)
    second = programs.python("-m", "tickcast.gateway", **settings(run_dir, free_port()))
    assert second.wait() == 1
    assert [line for line in second.errors if "error" in line] == [
        f"tickcast: error: a gateway (pid {gateway.program.pid}) serves {run_dir} already"
    ]


def test_a_port_that_is_taken_is_refused_in_one_line(programs, run_dir, tmp_path):
    gateway = Gateway.start(programs, run_dir)
    second = programs.python("-m", "tickcast.gateway", **settings(tmp_path / "other", gateway.port))
    assert second.wait() == 2
    assert second.errors == [
        f"tickcast: error: web.port: can't listen on 127.0.0.1:{gateway.port}: Address already in use"
    ]


def test_a_public_address_without_a_token_is_refused_in_one_line(programs, run_dir):
    program = programs.python("-m", "tickcast.gateway", **settings(run_dir, 0), TICKCAST_WEB_HOST="0.0.0.0")
    assert program.wait() == 2
    assert len(program.errors) == 1
    assert "--insecure-public" in program.errors[0]


async def test_plain_granian_serves_with_several_workers(programs, run_dir, followers):
    feed = Feed(run_dir)
    gateway = Gateway.start_granian(programs, run_dir, "--workers", "2", "--respawn-failed-workers")
    followers += [Follower(gateway.ws) for _ in range(8)]
    with feed.running(1_000):
        await asyncio.gather(*(f.reach(200) for f in followers))
        workers = gateway.workers()
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        await asyncio.gather(*(f.reach(feed.writer.head + 1_000) for f in followers))
    for follower in followers:
        follower.ledger.check()
    feed.close()
    assert await asyncio.to_thread(gateway.program.end) == 0


async def test_an_idle_gateway_costs_next_to_nothing(programs, run_dir, ws_connect):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_HEARTBEAT_MS="5000")
    for _ in range(20):
        await (await ws_connect(gateway.ws)).subscribe()
    (worker,) = gateway.workers()
    before = cpu_s(worker)
    await asyncio.sleep(3)  # what is measured is the use over a time
    assert cpu_s(worker) - before < 3 * 0.02 + 0.01
    feed.close()


async def test_a_client_that_was_away_resumes_with_every_trade_once_on_another_worker(programs, run_dir, ws_connect):
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_WORKERS="2")
    wait_until(lambda: len(gateway.workers()) == 2, "both workers are there")
    client, ledger = await ws_connect(gateway.ws), Ledger()
    hello = await client.until("hello")
    await client.send({"type": "subscribe", "snapshot": False})
    before = gateway.worker_of(client.port)
    with feed.running(1_000):
        while len(ledger.sequences) < 500:
            ledger.add(await client.receive())
        await client.close()
        following = ledger.sequences[-1] + 1
        wait_until(lambda: feed.writer.head > following + 2_000, "it was away for two seconds")
        # The kernel chooses the worker: come until it is the other one.
        while gateway.worker_of((client := await ws_connect(gateway.ws)).port) == before:
            await client.close()
        await client.send({"type": "subscribe", "epoch": hello["epoch"], "fromSeq": following, "snapshot": False})
        head = feed.writer.head + 500
        async with asyncio.timeout(30):
            while ledger.sequences[-1] < head:
                ledger.add(await client.receive())
    ledger.check()
    assert ledger.sequences[0] == 1
    feed.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is shared by all in any case")
async def test_pinned_workers_keep_to_a_core_each_with_all_their_threads(programs, run_dir, ws_connect):
    taken = [core for core in os.sched_getaffinity(0) if not is_free(core)]
    if len(os.sched_getaffinity(0)) - len(taken) < 2:
        pytest.skip(f"other gateways on this machine keep to cores {taken}")
    feed = Feed(run_dir)
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_WORKERS="2", TICKCAST_WEB_PIN="true")
    wait_until(lambda: len(gateway.workers()) == 2, "both workers are there")
    for _ in range(4):
        await (await ws_connect(gateway.ws)).subscribe()
    feed.add(100)

    def cores(worker: int) -> set[int]:
        threads = Path(f"/proc/{worker}/task").iterdir()
        return set().union(*(os.sched_getaffinity(int(thread.name)) for thread in threads))

    wait_until(lambda: all(len(cores(worker)) == 1 for worker in gateway.workers()), "all threads are on one core")
    first, second = (cores(worker) for worker in gateway.workers())
    assert first != second
    feed.close()


def is_free(core: int) -> bool:
    """Whether no worker on this machine keeps to a core."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind(f"\0tickcast-core-{core}")
        except OSError:
            return False
    return True


def cpu_s(pid: int) -> float:
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()  # noqa: SIM115, PTH123
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
