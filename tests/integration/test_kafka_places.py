"""From where ``kafka://`` reads: new topics, ones made again, what retention has deleted, and after orderly ends."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fixtures.kafka import KafkaServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import make_ticks
from fixtures.topics import Publisher, Topic, trade_of
from tickcast._core import TapeReader
from tickcast.config import Config
from tickcast.sources import open_source, places, shelves
from tickcast.sources.kafka import KafkaSource
from tickcast.sources.member import DRAIN_S

pytestmark = pytest.mark.kafka

GUARANTEES = pytest.mark.parametrize("exactly_once", ["false", "true"])


def process(programs: Programs, run_dir: Path, source: str, *sinks: str) -> Program:
    flags = [flag for sink in sinks for flag in ("--sink", sink)]
    settings = ("--set", "tape.bytes=16MiB", "--set", "log_level=info")
    program = programs.tickcast("process", "--source", source, *flags, "--run-dir", str(run_dir), *settings)
    program.expect("ready", 30)
    return program


def committed(address: str, group: str, topic: str, partition: int = 0) -> int:
    asking = Consumer({"bootstrap.servers": address, "group.id": group})
    try:
        return asking.committed([TopicPartition(topic, partition)], timeout=10)[0].offset
    except KafkaException:
        return -1
    finally:
        asking.close()


def prices(program: Program, topic: Topic, count: int) -> list[float]:
    """Return the prices of the trades, which number the ticks, once there are enough; none may be there twice."""
    messages = topic.read(count, 60, lambda: program.errors)
    assert len(messages) == count
    return sorted(trade_of(message)["price"] for message in messages)


def numbered(*numbers: int, name: str = "AAPL") -> list:
    return [(name, float(number), 5, 1_700_000_000_000_000_000 + number) for number in numbers]


def test_an_orderly_end_while_a_sink_is_away_doubles_nothing_in_the_others(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    address, lines = kafka_server.address, tmp_path / "trades.jsonl"
    kafka_server.create_topic("orderly", 2)
    ticks = make_ticks(60)
    Publisher(address, "orderly").publish(ticks[:50])
    source = f"kafka://{address}/orderly?group=orderly"
    sinks = (f"jsonl:{lines}", "nats://127.0.0.1:1/nobody")

    def written() -> int:
        return lines.read_text().count("\n") if lines.exists() else 0

    program = process(programs, run_dir, source, *sinks)
    wait_until(lambda: written() == 50, "the file has them")
    assert program.end(timeout_s=60) == 0
    assert committed(address, "orderly", "orderly") < 0, "one sink has none of them"
    program = process(programs, run_dir, source, *sinks)
    Publisher(address, "orderly").publish(ticks[50:])
    wait_until(lambda: written() >= 60, "the file has what came later")
    assert program.end(timeout_s=60) == 0
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(found) == len({trade["tradeId"] for trade in found}) == 60
    assert TapeReader.open(run_dir).head == 60


@GUARANTEES
def test_new_is_what_comes_after_the_group_first_saw_the_topic(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, exactly_once: str
) -> None:
    address, name = kafka_server.address, f"new-{exactly_once}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1)
    Publisher(address, name).publish(numbered(*range(1, 21)))
    source = f"kafka://{address}/{name}?group={name}&start=new&exactly_once={exactly_once}"
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    wait_until(lambda: committed(address, name, name) == 20, "where it begins is committed")
    assert program.end() == 0
    Publisher(address, name).publish(numbered(*range(21, 51)))
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    out = Topic(address, f"{name}-out")
    assert prices(program, out, 30) == list(range(21, 51))
    kafka_server.grow_topic(name, 4)
    Publisher(address, name).publish([t for n in range(51, 71) for t in numbered(n, name=f"SYM{n}")])
    assert prices(program, out, 50) == list(range(21, 71))
    assert program.end() == 0
    kafka_server.grow_topic(name, 7)
    Publisher(address, name).publish([t for n in range(71, 101) for t in numbered(n, name=f"SYM{n}")])
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    assert prices(program, out, 80) == list(range(21, 101))
    assert program.end() == 0


@GUARANTEES
def test_a_topic_that_is_made_again_is_read_from_its_beginning(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, exactly_once: str
) -> None:
    address, name = kafka_server.address, f"again-{exactly_once}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1)
    out = Topic(address, f"{name}-out")
    Publisher(address, name).publish(numbered(*range(1, 101)))
    source = f"kafka://{address}/{name}?group={name}&exactly_once={exactly_once}"
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    assert prices(program, out, 100) == list(range(1, 101))
    kafka_server.delete_topic(name)
    kafka_server.create_topic(name, 1)
    Publisher(address, name).publish(numbered(*range(101, 151)))
    assert prices(program, out, 150) == list(range(1, 151))
    assert program.end() == 0
    Publisher(address, name).publish(numbered(*range(151, 161)))
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    assert prices(program, out, 160) == list(range(1, 161))
    assert program.end() == 0


@GUARANTEES
def test_what_was_read_before_retention_went_past_it_is_written_once_the_sink_takes_it(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, exactly_once: str
) -> None:
    address, name = kafka_server.address, f"read-{exactly_once}"
    kafka_server.create_topic(name, 1)
    Publisher(address, name).publish(numbered(*range(1, 11)))
    source = f"kafka://{address}/{name}?group={name}&exactly_once={exactly_once}&fetch.wait.max.ms=10"
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    wait_until(lambda: TapeReader.open(run_dir).head == 10, "they are judged, and wait for a topic that is not there")
    Publisher(address, name).publish(numbered(*range(11, 21)))
    wait_until(lambda: TapeReader.open(run_dir).head == 20, "the sink has not even read these")
    program.signal(signal.SIGSTOP)
    Publisher(address, name).publish(numbered(*range(21, 41)))
    kafka_server.delete_messages(name, 30)
    program.signal(signal.SIGCONT)
    # Unless a fetch that was under way has brought them.
    told = "no longer has what was to be read"
    wait_until(lambda: TapeReader.open(run_dir).head > 20 or any(told in line for line in program.errors), "it is met")

    def heartbeat_s() -> float:
        return json.loads(TapeReader.open(run_dir).board())["heartbeatNs"] / 1e9

    patient_s = heartbeat_s() + DRAIN_S + 2  # whoever gives a partition up waits for the sinks no longer than DRAIN_S
    wait_until(lambda: heartbeat_s() > patient_s, "the sink is away for long")
    kafka_server.create_topic(f"{name}-out", 1)
    out = Topic(address, f"{name}-out")
    while 40.0 not in {trade_of(message)["price"] for message in out.messages}:
        out.read(len(out.messages) + 1, 60, lambda: program.errors)
    there = {trade_of(message)["price"] for message in out.messages}
    assert there >= {*range(1, 21), *range(31, 41)}
    assert program.end() == 0


async def test_a_partition_that_was_paused_goes_on_with_whoever_has_it_next(
    kafka_server: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "MOST_MESSAGES", 100)
    kafka_server.create_topic("paused", 4)
    ticks = make_ticks(2000)
    Publisher(kafka_server.address, "paused").publish(ticks)
    url = f"kafka://{kafka_server.address}/paused?group=paused&instance="
    first, second = (open_source(Config(source=url + name, run_dir=str(tmp_path / name)), 0) for name in "ab")
    for name in "ab":
        (tmp_path / name).mkdir()

    async def read(source: KafkaSource) -> None:
        while await source.next(4096) is not None:
            pass

    def lag(source: KafkaSource) -> int:
        return sum(2000 if one.lag is None else one.lag for one in source.lags())

    async with asyncio.timeout(60), asyncio.TaskGroup() as readers:
        try:
            await first.open([])
            while not first._shelves.are_full:
                await asyncio.sleep(0.05)
            await second.open([])
            while not (first.lags() and second.lags()):
                await asyncio.sleep(0.05)
            tasks = [readers.create_task(read(source)) for source in (first, second)]
            while lag(first) or lag(second):
                await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
        finally:
            await asyncio.gather(first.close(), second.close())


async def test_a_partition_whose_leader_is_away_does_not_keep_the_others_waiting(
    kafka_server: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka_server.create_topic("leaderless", 2)
    publisher = Publisher(kafka_server.address, "leaderless")
    config = Config(source=f"kafka://{kafka_server.address}/leaderless?group=l", run_dir=str(tmp_path))

    async def read(count: int) -> set[int]:
        source, partitions = open_source(config, 0), set()
        await source.open([])
        try:
            async with asyncio.timeout(30):
                while count > 0:
                    batch = await source.next(4096)
                    count -= 0 if batch.silent else batch.rows
                    for position in batch.last_positions:
                        partitions.add(position[1])
                        await source.saved(position, position[2])
        finally:
            await source.close()
        return partitions

    publisher.publish(make_ticks(100))
    assert await read(100) == {0, 1}
    ends = places._ends

    def without_a_leader(consumer: Consumer, known: TopicPartition, timeout_s: float) -> tuple[int, int]:
        if known.partition == 0:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return ends(consumer, known, timeout_s)

    monkeypatch.setattr(places, "_ends", without_a_leader)
    publisher.publish(make_ticks(100))
    assert await read(100) == {0, 1}


async def test_brokers_that_are_back_are_noticed_on_a_topic_where_nothing_comes(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    kafka_server.create_topic("quiet", 1)
    source = open_source(Config(source=f"kafka://{kafka_server.address}/quiet?group=q", run_dir=str(tmp_path)), 0)
    await source.open([])
    try:
        async with asyncio.timeout(30):
            while not source.lags():
                await asyncio.sleep(0.05)
            # As librdkafka tells it; an outage that is shorter than the session, with nothing to read behind it.
            source._member._on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
            assert source.state().state == "reconnecting"
            while source.state().state != "live":
                await asyncio.sleep(0.05)
    finally:
        await source.close()


@GUARANTEES
def test_what_retention_has_deleted_is_counted_and_the_rest_is_read(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, exactly_once: str
) -> None:
    address, name = kafka_server.address, f"gone-{exactly_once}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1)
    out = Topic(address, f"{name}-out")
    Publisher(address, name).publish(numbered(*range(1, 11)))
    # A fetch that waits at the broker when the processor stops brings what comes next all the same: it waits shortly.
    source = f"kafka://{address}/{name}?group={name}&exactly_once={exactly_once}&fetch.wait.max.ms=10"
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    assert prices(program, out, 10) == list(range(1, 11))
    wait_until(lambda: committed(address, name, name) >= 10, "it is committed")
    # Behind its back: what it asks for next is gone.
    program.signal(signal.SIGSTOP)
    Publisher(address, name).publish(numbered(*range(11, 31)))
    kafka_server.delete_messages(name, 20)
    program.signal(signal.SIGCONT)
    while 30.0 not in {trade_of(message)["price"] for message in out.messages}:
        out.read(len(out.messages) + 1, 60, lambda: program.errors)
    there = len(out.messages)
    lost = 30 - there
    assert prices(program, out, there) == [*range(1, 11), *range(11 + lost, 31)]
    assert lost in {0, 10}
    wait_until(lambda: json.loads(TapeReader.open(run_dir).board())["counters"]["lost"] == lost, "it is counted")
    assert program.end() == 0
    # While it is away.
    Publisher(address, name).publish(numbered(*range(31, 51)))
    kafka_server.delete_messages(name, 35)
    program = process(programs, run_dir, source, f"kafka://{address}/{name}-out")
    assert prices(program, out, there + 15) == [*range(1, 11), *range(11 + lost, 31), *range(36, 51)]
    assert [line for line in program.errors if "no longer has 5 messages of partition 0" in line]
    assert program.end() == 0
