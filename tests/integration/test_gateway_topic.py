"""Gateways that follow a topic of judged trades, on real brokers: all of it, each trade once, whoever is killed."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

import nats
from nats.js.api import StreamConfig

from fixtures.follower import Follower
from fixtures.kafka import KafkaServer
from fixtures.nats import NatsServer
from fixtures.processes import Programs, lives
from fixtures.serving import Gateway, until
from fixtures.ticks import as_proto, make_ticks
from fixtures.topics import Publisher
from tickcast._core import NatsPublisher, TapeReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

TRADES = int(os.environ.get("TICKCAST_TEST_TOPIC_TRADES", "20000"))
SECONDS = float(os.environ.get("TICKCAST_TEST_TOPIC_SECONDS", "8"))
REPEATED = 300
"""Trades that a killed processor would write again, every now and then."""
RULES = """
import numpy as np
import tickcast as tc

rules = tc.RuleSet("desk")


@rules.check(reason="Too small")
def large(ticks: tc.Ticks) -> np.ndarray:
    return ticks.volume > 100


@rules.enrich("notional", unit="USD")
def notional(ticks: tc.Ticks) -> np.ndarray:
    return ticks.price * ticks.volume
"""


def trades_on(run_dir: Path) -> list[dict]:
    """Return all trades of a tape, in order."""
    tape = TapeReader.open(run_dir)
    trades: list[dict] = []
    while len(trades) < tape.head:
        page = json.loads(tape.trades(len(trades) + 1, 5000))["trades"]
        assert page, (len(trades), tape.head)
        trades += page
    return trades


def by_id(trades: list[dict]) -> dict[str, dict]:
    """Return trades by id; each must be there once."""
    found = {trade["tradeId"]: trade for trade in trades}
    assert len(found) == len(trades)
    return found


def head(run_dir: Path) -> int:
    return TapeReader.open(run_dir).head if (run_dir / "tape").exists() else 0


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(name: str, *args: str) -> Gateway:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Gateway(folder, *args, "--set", "tape.bytes=64MiB"))
        return made[-1]

    yield make
    for one in made:
        one.stop()


async def test_trades_of_every_format_come_as_the_processor_judged_them(
    kafka_server: KafkaServer, programs: Programs, tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    address, formats = kafka_server.address, ("json", "proto", "proto-batch")
    kafka_server.create_topic("raw", 2)
    for name in formats:
        kafka_server.create_topic(f"judged-{name}", 3)
    ticks = make_ticks(4000)
    publisher = Publisher(address, "raw")
    publisher.publish(ticks)
    publisher.send(as_proto(("x", 10.0, 500, 17)), key="x")
    publisher.flush()
    (tmp_path / "desk.py").write_text(RULES)
    sinks = [part for name in formats for part in ("--sink", f"kafka://{address}/judged-{name}?format={name}")]
    source = ("--source", f"kafka://{address}/raw?group=raw", "--rules", "desk:rules")
    processor = programs.tickcast("process", *source, *sinks, "--run-dir", str(tmp_path / "far"), cwd=tmp_path)
    processor.expect("ready")
    await until(lambda: head(tmp_path / "far") == 4001, "judged trades")
    far = by_id(trades_on(tmp_path / "far"))
    assert {trade["status"] for trade in far.values()} == {"VALID", "INVALID"}
    for name in formats:
        near = gateway(name, "--source", f"kafka://{address}/judged-{name}").start()
        await until(lambda run_dir=near.run_dir: head(run_dir) == 4001, f"trades of {name}")
        got = by_id(trades_on(near.run_dir))
        if name == "json":
            assert got == far
            assert any("notional" in trade for trade in got.values())
        else:
            assert got == {i: {k: v for k, v in trade.items() if k != "notional"} for i, trade in far.items()}
        assert near.board()["source"]["state"] == "live"
        assert near.board()["ruleSet"].startswith("desk@")
        near.stop()
    assert processor.end() == 0


def judged(count: int, *, instruments: int = 40) -> list[tuple[str, bytes]]:
    """Return trades as a sink writes them: key and payload, of one source partition."""
    return [
        (
            name,
            json.dumps(
                {
                    "tradeId": f"deadbeef0001{row:016x}0000",
                    "instrumentId": name,
                    "price": price,
                    "volume": str(row + 1),
                    "timestampNs": str(time_ns),
                    "status": "VALID",
                    "vwap20m": 10.5,
                    "notional": float(row),
                }
            ).encode(),
        )
        for row, (name, price, _, time_ns) in enumerate(make_ticks(count, instruments=instruments))
    ]


async def write_with_repetitions(send: Callable[[list[tuple[str, bytes]]], None], trades: list) -> None:
    """Write trades over some seconds, some of them again after a while, in order, as a killed processor would."""
    start, step = time.monotonic(), TRADES // 100
    for at in range(0, len(trades), step):
        again = trades[max(0, at - REPEATED) : at] if at % (7 * step) == 0 else []
        await asyncio.to_thread(send, again + trades[at : at + step])
        await asyncio.sleep(max(0.0, start + at / len(trades) * SECONDS - time.monotonic()))


def pid_of(served: Gateway, victim: str) -> int | None:
    """Return the pid of a process that lives; None while it is being started again."""
    with contextlib.suppress(OSError, KeyError):
        pid = served.processor_pid() if victim == "follower" else next(iter(served.gateway_workers()), None)
        return pid if pid is not None and lives(pid) else None
    return None


async def kill_now_and_then(served: Gateway, writing: asyncio.Task, restart: Callable[[], object]) -> int:
    """Kill the follower, a gateway worker or the supervisor every second; restart the broker once."""
    kills = 0
    while not writing.done():
        await asyncio.wait([writing], timeout=1.0)
        if kills == 2:
            await asyncio.to_thread(restart)
        victim = ("follower", "worker", "follower", "supervisor")[kills % 4]
        if victim == "supervisor":
            served.kill_supervisor()
            await asyncio.to_thread(served.start)
        else:
            pid = await until(partial(pid_of, served, victim), f"a {victim}")
            os.kill(pid, signal.SIGKILL)
        kills += 1
    return kills


async def everything_once(follower: Follower, trades: list[tuple[str, bytes]]) -> None:
    """Expect that a client has got each trade once, those of an instrument in order."""
    await follower.until(lambda: len(follower.trades) >= len(trades), f"{len(trades)} trades", 90)
    assert not follower.doubled
    assert not follower.gaps
    got = [follower.trades[seq] for seq in sorted(follower.trades)]
    wanted = [json.loads(payload) for _, payload in trades]
    assert by_id(got) == by_id(wanted)
    for name in {name for name, _ in trades}:
        assert [t["tradeId"] for t in got if t["instrumentId"] == name] == [
            t["tradeId"] for t in wanted if t["instrumentId"] == name
        ]


async def test_kafka_topic_with_repetitions_over_kills_and_a_broker_restart(gateway: Callable[..., Gateway]) -> None:
    trades = judged(TRADES)
    with KafkaServer() as broker:
        broker.create_topic("validated", 3)
        publisher = Publisher(broker.address, "validated")

        def send(some: list[tuple[str, bytes]]) -> None:
            for name, payload in some:
                publisher.send(payload, key=name, **{"tickcast-rules": "desk@7"})
            publisher.flush()

        send(trades[:50])
        served = gateway("near", "--source", f"kafka://{broker.address}/validated").start()
        async with Follower(served.address, fromSeq=1, snapshot=False) as follower:
            await follower.until(lambda: len(follower.trades) == 50, "the first trades")
            writing = asyncio.create_task(write_with_repetitions(send, trades))
            assert await kill_now_and_then(served, writing, broker.restart) > 3
            await writing
            await everything_once(follower, trades)
            assert follower.connections > 1
        # A second one begins anew, and gets all of it too.
        other = gateway("other", "--source", f"kafka://{broker.address}/validated").start()
        await until(lambda: head(other.run_dir) >= len(trades), "all trades at another gateway")
        assert by_id(trades_on(other.run_dir)) == by_id([json.loads(payload) for _, payload in trades])


async def test_jetstream_with_repetitions_over_kills_and_a_server_restart(
    nats_server: NatsServer, gateway: Callable[..., Gateway]
) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(StreamConfig(name="TRADES", subjects=["trades.>"]))
    await client.close()
    trades = judged(TRADES)
    publisher = NatsPublisher(nats_server.url, "trades.all", stream="TRADES")

    sent = 0

    def send(some: list[tuple[str, bytes]]) -> None:
        nonlocal sent
        ids = [f"message-{sent + at}" for at in range(len(some))]
        sent += len(some)
        accepted = publisher.publish(
            [payload for _, payload in some],
            subjects=[f"trades.{name}" for name, _ in some],
            message_ids=ids,
            headers={"tickcast-rules": "desk@7"},
            timeout=30.0,
        )
        assert accepted == len(some)

    send(trades[:50])
    address = nats_server.url.removeprefix("nats://")
    served = gateway("near", "--source", f"jetstream://{address}/trades.>?stream=TRADES").start()
    async with Follower(served.address, fromSeq=1, snapshot=False) as follower:
        await follower.until(lambda: len(follower.trades) == 50, "the first trades")
        writing = asyncio.create_task(write_with_repetitions(send, trades))
        assert await kill_now_and_then(served, writing, nats_server.restart) > 3
        await writing
        await asyncio.to_thread(publisher.flush, 30.0)
        await everything_once(follower, trades)
    publisher.close()


async def test_a_broker_that_is_away_makes_it_stale_and_ticks_are_refused(gateway: Callable[..., Gateway]) -> None:
    with KafkaServer() as broker:
        broker.create_topic("validated", 1)
        publisher = Publisher(broker.address, "validated")
        for name, payload in judged(10):
            publisher.send(payload, key=name)
        publisher.flush()
        served = gateway("near", "--source", f"kafka://{broker.address}/validated").start()
        async with Follower(served.address, fromSeq=1, snapshot=False) as follower:
            await follower.until(lambda: len(follower.trades) == 10, "the trades")
            await follower.send({"type": "tick", "instrumentId": "SYM001", "price": 10.0, "volume": "5"})
            await follower.until(lambda: follower.refused is not None, "an answer to the tick")
            assert follower.refused["code"] == "away"
            assert "judged already" in follower.refused["message"]
            broker.stop()
            await follower.until(lambda: [s["state"] for s in follower.statuses][-1:] == ["stale"], "stale")
            broker.start()
            await follower.until(lambda: [s["state"] for s in follower.statuses][-1:] == ["live"], "live", 60)
            grown = Publisher(broker.address, "validated")
            broker.grow_topic("validated", 2)
            for name, payload in judged(30)[10:]:
                grown.send(payload, key=name)
            grown.send(b"no trade", key="x")
            grown.flush()
            await follower.until(lambda: len(follower.trades) == 30, "trades of the new partition too")
            await until(lambda: served.board()["counters"]["lost"] == 1, "the message that is none counted")


async def test_a_topic_that_has_let_messages_go_is_read_from_what_it_has(gateway: Callable[..., Gateway]) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    with KafkaServer() as broker:
        broker.create_topic("validated", 1)
        trades = judged(300)
        publisher = Publisher(broker.address, "validated")

        def send(some: list[tuple[str, bytes]]) -> None:
            for name, payload in some:
                publisher.send(payload, key=name)
            publisher.flush()

        send(trades[:100])
        served = gateway("near", "--source", f"kafka://{broker.address}/validated").start()
        await until(lambda: head(served.run_dir) == 100, "the first trades")
        served.stop()
        send(trades[100:])
        admin = AdminClient({"bootstrap.servers": broker.address})
        for future in admin.delete_records([TopicPartition("validated", 0, 150)]).values():
            future.result(30)
        served.start()
        await until(lambda: head(served.run_dir) == 250, "what is left")
        got = [int(trade["volume"]) for trade in trades_on(served.run_dir)]
        assert got == [*range(1, 101), *range(151, 301)]
        await until(lambda: served.board()["counters"]["lost"] == 50, "what was lost is counted")
