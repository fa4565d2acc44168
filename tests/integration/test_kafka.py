"""``kafka://`` against a real broker: formats, order, headers, oddities of topics, taking up after an end."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from fixtures.kafka import KafkaServer
from fixtures.processes import Programs, wait_until
from fixtures.ticks import as_batch, as_json, as_proto, make_ticks
from fixtures.topics import Publisher, Topic, trade_of
from tickcast._core import TapeReader
from tickcast.config import Config
from tickcast.gateway import metrics
from tickcast.sources import open_source

pytestmark = pytest.mark.kafka

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def process(programs: Programs, run_dir: Path, source: str, sink: str, *more: str):
    program = programs.tickcast(
        "process", "--source", source, "--sink", sink, "--run-dir", str(run_dir), "--set", "tape.bytes=16MiB", *more
    )
    program.expect("ready", 30)
    return program


def test_ticks_of_every_format_come_out_as_trades(kafka_server: KafkaServer, programs: Programs, run_dir: Path) -> None:
    kafka_server.create_topic("formats", 4)
    kafka_server.create_topic("formats-out", 4)
    ticks = make_ticks(3000)
    publisher = Publisher(kafka_server.address, "formats")
    for at in range(0, 1000):
        publisher.send(as_proto(ticks[at]), key=ticks[at][0])
    for at in range(1000, 2000):
        publisher.send(as_json(ticks[at]), key=ticks[at][0])
    publisher.send(as_batch(ticks[2000:]), key="many", **{"tickcast-format": "proto-batch"})
    publisher.flush()
    address = kafka_server.address
    program = process(programs, run_dir, f"kafka://{address}/formats?group=f", f"kafka://{address}/formats-out")
    messages = Topic(address, "formats-out").read(3000, 30)
    assert program.end() == 0
    assert len(messages) == 3000
    trades = [trade_of(message) for message in messages]
    assert len({trade["tradeId"] for trade in trades}) == 3000
    expected = sorted((name, price, str(volume), str(time_ns)) for name, price, volume, time_ns in ticks)
    assert sorted((t["instrumentId"], t["price"], t["volume"], t["timestampNs"]) for t in trades) == expected
    for message in messages:
        headers = {name: value.decode() for name, value in message.headers()}
        assert headers["tickcast-trade-id"] == trade_of(message)["tradeId"]
        assert headers["tickcast-format"] == "json"
        assert headers["tickcast-rules"].startswith("screen@")
        assert message.key().decode() == trade_of(message)["instrumentId"]
    assert sorted(int(dict(m.headers())["tickcast-sequence"]) for m in messages) == list(range(1, 3001))


def test_a_sink_leaves_the_headers_out_where_nobody_wants_them(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    kafka_server.create_topic("bare", 1)
    kafka_server.create_topic("bare-out", 1)
    publisher, ticks = Publisher(kafka_server.address, "bare"), make_ticks(300)
    for tick in ticks:
        publisher.send(as_proto(tick), key=tick[0], traceparent=TRACE)
    publisher.flush()
    address = kafka_server.address
    sink = f"kafka://{address}/bare-out?headers=false"
    program = process(programs, run_dir, f"kafka://{address}/bare?group=b", sink)
    messages = Topic(address, "bare-out").take(300, 30)
    assert program.end() == 0
    assert [m.headers() for m in messages] == [None] * 300
    assert [(trade_of(m)["instrumentId"], m.key().decode()) for m in messages] == [(t[0], t[0]) for t in ticks]


def test_a_tick_that_is_traced_hands_its_context_on_to_its_trade(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    kafka_server.create_topic("traced", 1)
    kafka_server.create_topic("traced-out", 1)
    publisher = Publisher(kafka_server.address, "traced")
    publisher.send(as_batch([("AAPL", 10.0, 5, 17)]), key="AAPL")
    publisher.send(as_batch([("AAPL", 11.0, 5, 18), ("AAPL", 12.0, 5, 19)]), key="AAPL", traceparent=TRACE)
    publisher.flush()
    address = kafka_server.address
    source, sink = f"kafka://{address}/traced?group=t&format=proto-batch", f"kafka://{address}/traced-out"
    program = process(programs, run_dir, source, sink)
    messages = Topic(address, "traced-out").read(3, 30)
    assert program.end() == 0
    contexts = {trade_of(m)["price"]: dict(m.headers()).get("traceparent") for m in messages}
    assert contexts == {10.0: None, 11.0: TRACE.encode(), 12.0: TRACE.encode()}


def test_a_sink_that_is_down_makes_the_log_wait_and_nobody_else(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address, count = kafka_server.address, 60_000
    kafka_server.create_topic("waits", 1)
    Publisher(address, "waits").publish(make_ticks(count))
    with KafkaServer() as other:
        other.create_topic("waits-out", 1)
        out = Topic(other.address, "waits-out")
        other.pause()
        source = f"kafka://{address}/waits?group=w"
        program = process(programs, run_dir, source, f"kafka://{other.address}/waits-out", "--set", "log_level=info")

        def board() -> dict:
            return json.loads(TapeReader.open(run_dir).board() or b"{}")

        # The tape, which is what clients read, takes what it can hold, and no more.
        wait_until(lambda: board().get("sinks", [{}])[0].get("lag", 0) > 1000, "the sink falls behind")
        held = wait_until(lambda: standstill(lambda: TapeReader.open(run_dir).head), "the tape is full", 60)
        assert 1000 < held < count
        wait_until(lambda: "trades wait" in board()["sinks"][0]["state"], "the sink says that it waits")
        state = board()
        assert state["source"]["state"] == "live"
        # For longer than the group waits for a member that is not heard of.
        wait_until(lambda: board()["heartbeatNs"] > state["heartbeatNs"] + 8 * 10**9, "8 s", 30)
        other.resume()
        messages = out.read(count, 60)
        assert program.end() == 0
        assert not [line for line in program.errors if "partitions revoked" in line or "partitions lost" in line][1:]
    assert len({trade_of(message)["tradeId"] for message in messages}) == len(messages) == count


@pytest.mark.parametrize("exactly_once", ["false", "true"])
def test_a_processor_ends_while_the_brokers_are_away_and_writes_the_rest_when_it_is_back(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, exactly_once: str
) -> None:
    address, count, name = kafka_server.address, 100_000, f"ends-{exactly_once}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1)
    Publisher(address, name).publish(make_ticks(count))
    urls = (f"kafka://{address}/{name}?group=e&exactly_once={exactly_once}", f"kafka://{address}/{name}-out")
    program = process(programs, run_dir, *urls)
    wait_until(lambda: TapeReader.open(run_dir).head > 1000, "there is something to write")
    kafka_server.pause()
    try:
        wait_until(lambda: standstill(lambda: TapeReader.open(run_dir).head), "what had come is judged")
        assert json.loads(TapeReader.open(run_dir).board())["sinks"][0]["lag"] > 0
        assert program.end(timeout_s=60) == 0
    finally:
        kafka_server.resume()
    assert [line for line in program.errors if "trades are left for the next start" in line]
    again = process(programs, run_dir, *urls)
    messages = Topic(address, f"{name}-out").read(count, 60)
    assert again.end() == 0
    if exactly_once == "true":
        assert len(messages) == count


@pytest.mark.parametrize("headers", ["true", "false"])
def test_a_topic_that_refuses_is_told_and_gets_every_trade_once_it_does_not(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, headers: str
) -> None:
    address, count, name = kafka_server.address, 50, f"picky-{headers}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1, max_message_bytes="100")
    sink_url = f"kafka://{address}/{name}-out?headers={headers}"
    program = process(programs, run_dir, f"kafka://{address}/{name}?group=p", sink_url)
    Publisher(address, name).publish(make_ticks(count))

    def sink() -> dict:
        return json.loads(TapeReader.open(run_dir).board() or b"{}").get("sinks", [{}])[0]

    wait_until(lambda: "refused by" in sink().get("state", "") and sink()["lag"] == count, "the sink is refused")
    kafka_server.configure_topic(f"{name}-out", max_message_bytes="1000000")
    messages = Topic(address, f"{name}-out").take(count, 30)
    wait_until(lambda: (sink()["state"], sink()["lag"]) == ("live", 0), "the sink is live again")
    assert program.end() == 0
    assert len({trade_of(message)["tradeId"] for message in messages}) == len(messages) == count


@pytest.mark.parametrize("headers", ["true", "false"])
def test_what_the_client_itself_refuses_is_told(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, headers: str
) -> None:
    address, name = kafka_server.address, f"narrow-{headers}"
    kafka_server.create_topic(name, 1)
    kafka_server.create_topic(f"{name}-out", 1)
    Publisher(address, name).publish(make_ticks(500, instruments=1))
    sink = f"kafka://{address}/{name}-out?format=proto-batch&headers={headers}&message.max.bytes=1000"
    program = process(programs, run_dir, f"kafka://{address}/{name}?group=n", sink)

    def state() -> str:
        return json.loads(TapeReader.open(run_dir).board() or b"{}").get("sinks", [{}])[0].get("state", "")

    wait_until(lambda: "refused by" in state() and "too large" in state(), "the sink says why")
    program.kill()


def committed(address: str, group: str, topic: str) -> int:
    """Return what a group has committed of a topic's first partition."""
    from confluent_kafka import Consumer, TopicPartition

    asking = Consumer({"bootstrap.servers": address, "group.id": group})
    try:
        return asking.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    finally:
        asking.close()


def standstill(value: Callable[[], int]) -> int | None:
    """Return a value that has not changed for a second."""
    first, until = value(), time.monotonic() + 1
    while time.monotonic() < until:
        if value() != first:
            return None
        time.sleep(0.05)
    return first


def test_a_topic_with_tombstones_null_keys_and_new_partitions_does_no_harm(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address = kafka_server.address
    kafka_server.create_topic("odd", 1)
    kafka_server.create_topic("odd-out", 2)
    publisher = Publisher(address, "odd")
    tick = ("AAPL", 10.0, 5, 1_700_000_000_000_000_000)
    publisher.send(None, key="AAPL")
    publisher.send(as_proto(tick))
    publisher.flush()
    topic = Topic(address, "odd-out")
    program = process(programs, run_dir, f"kafka://{address}/odd?group=o", f"kafka://{address}/odd-out")
    topic.read(1, 20)
    kafka_server.grow_topic("odd", 3)
    grown = Publisher(address, "odd")
    for number in range(30):
        grown.send(as_proto((f"SYM{number:02d}", 10.0, 5, 1_700_000_000_000_000_000 + number)), key=f"SYM{number:02d}")
    grown.flush()
    messages = topic.read(31, 30)
    assert {trade_of(m)["instrumentId"] for m in messages} == {"AAPL", *(f"SYM{n:02d}" for n in range(30))}
    assert all(trade_of(m)["status"] == "VALID" for m in messages)
    assert program.end() == 0


def test_batches_fit_on_the_smallest_tape(kafka_server: KafkaServer, programs: Programs, run_dir: Path) -> None:
    address, count = kafka_server.address, 20_000
    kafka_server.create_topic("small", 1)
    Publisher(address, "small").publish(make_ticks(count))
    source, small = f"kafka://{address}/small?group=s", ("--set", "tape.bytes=2MiB", "--set", "tape.max_instruments=64")
    program = programs.tickcast("process", "--source", source, "--run-dir", str(run_dir), *small)
    program.expect("ready", 30)
    tape = TapeReader.open(run_dir)
    wait_until(lambda: tape.head == count, "all of it has been on the tape", 30)
    assert program.end() == 0


def test_undecodable_messages_end_in_the_dead_letters(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address = kafka_server.address
    kafka_server.create_topic("broken", 1, max_message_bytes="20000000")
    kafka_server.create_topic("broken-out", 1)
    good = as_proto(("AAPL", 10.0, 5, 1_700_000_000_000_000_000))
    bad = [good[:5], b'{"instrumentId": 7, "price": 1, "volume": 2}', b"\xff" * 10_000_000, b""]
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "message.max.bytes": 20_000_000})
    for payload in [*bad, good]:
        producer.produce("broken", payload, "AAPL", headers={"who": "us"})
    assert producer.flush(30) == 0
    program = process(programs, run_dir, f"kafka://{address}/broken?group=b", f"kafka://{address}/broken-out")
    messages = Topic(address, "broken-out").read(1, 30)
    assert trade_of(messages[0])["instrumentId"] == "AAPL"
    assert program.end() == 0
    letters = [json.loads(line) for line in (run_dir / "dead-letters.jsonl").read_text().splitlines()]
    assert [letter["offset"] for letter in letters] == [0, 1, 2, 3]
    assert [base64.b64decode(letter["payload"]) for letter in letters] == bad
    assert all(base64.b64decode(letter["key"]) == b"AAPL" for letter in letters)
    assert all(letter["headers"] == [["who", base64.b64encode(b"us").decode()]] for letter in letters)


def test_dead_letters_are_listed_shown_and_come_back_after_a_fix(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address = kafka_server.address
    kafka_server.create_topic("fixed", 1)
    kafka_server.create_topic("fixed-out", 1)
    publisher = Publisher(address, "fixed")
    # Volumes of a half: undecodable until somebody says that they are to be multiplied.
    for number in range(3):
        publisher.send(b'{"instrumentId":"BTC","price":10,"volume":0.5,"timestampNs":"17"}', key="BTC", lot=str(number))
    publisher.flush()
    source, sink = f"kafka://{address}/fixed?group=x", f"kafka://{address}/fixed-out"
    program = process(programs, run_dir, source, sink)
    path = run_dir / "dead-letters.jsonl"
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) == 3, "three dead letters")
    # They are kept before the position behind them is: until then they would be read again.
    wait_until(lambda: committed(address, "x", "fixed") == 3, "the group is behind them")
    assert program.end() == 0
    listed = run(programs, "dlq", "list", "--run-dir", str(run_dir))
    assert len(listed) == 3
    assert all("volume: must be a whole number, was 0.5" in line for line in listed)
    shown = run(programs, "dlq", "show", listed[0].split()[0], "--run-dir", str(run_dir))
    assert "key       b'BTC'" in shown
    assert "header    lot: b'0'" in shown
    sent = run(programs, "dlq", "redrive", "--source", source, "--run-dir", str(run_dir))
    assert sent == [f"3 of 3 dead letters sent to {source}"]
    again = run(programs, "dlq", "redrive", "--source", source, "--run-dir", str(run_dir))
    assert again == [f"0 of 0 dead letters sent to {source}"]
    program = process(programs, run_dir, f"{source}&volume_scale=10", sink)
    messages = Topic(address, "fixed-out").read(3, 30)
    assert [trade_of(m)["volume"] for m in messages] == ["5", "5", "5"]
    assert program.end() == 0


def test_one_tick_of_a_batch_comes_back_as_a_message_of_its_own(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address = kafka_server.address
    kafka_server.create_topic("parts", 1)
    kafka_server.create_topic("parts-out", 1)
    good = as_batch([("AAPL", 10.0, 5, 17)])
    bad = as_proto(("MSFT", 11.0, 5, 18)).replace(b"MSFT", b"MS\xff\xfe")
    publisher = Publisher(address, "parts")
    batch = good + b"\x0a" + bytes([len(bad)]) + bad + good
    publisher.send(batch, key="many", **{"tickcast-format": "proto-batch"})
    publisher.flush()
    source, sink = f"kafka://{address}/parts?group=p", f"kafka://{address}/parts-out"
    program = process(programs, run_dir, source, sink, "--set", "log_level=info")
    Topic(address, "parts-out").read(2, 30)
    path = run_dir / "dead-letters.jsonl"
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) == 1, "a dead letter")
    assert run(programs, "dlq", "redrive", "--source", source, "--run-dir", str(run_dir))[0].startswith("1 of 1")
    wait_until(lambda: len(path.read_text().splitlines()) == 2, "it comes back")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert second["payload"] == first["payload"] == base64.b64encode(bad).decode()
    assert (first["part"], second.get("part", False)) == (True, False)
    assert {one["error"].partition(" (at byte")[0] for one in (first, second)} == {
        r'instrument_id: is not UTF-8, was "MS\xff\xfe"'
    }
    assert program.end() == 0
    assert [line for line in program.errors if f"1 undecodable, now in {path}; the last: " in line]


def test_dead_letters_go_to_a_topic_with_the_reason_in_their_headers(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path
) -> None:
    address = kafka_server.address
    for name in ("worse", "worse-out", "worse-dead"):
        kafka_server.create_topic(name, 1)
    publisher = Publisher(address, "worse")
    publisher.send(b"\xff\xff", key="AAPL", who="us")
    publisher.flush()
    letters = f"kafka://{address}/worse-dead"
    program = process(
        programs, run_dir, f"kafka://{address}/worse", f"kafka://{address}/worse-out", "--dead-letters", letters
    )
    found = Topic(address, "worse-dead").take(1, 30)[0]
    headers = dict(found.headers())
    assert (found.key(), found.value(), headers["who"]) == (b"AAPL", b"\xff\xff", b"us")
    assert b"at byte" in headers["tickcast.error.message"]
    assert headers["tickcast.error.position"].endswith(b" 0 0 0")
    assert program.end() == 0


def run(programs: Programs, *arguments: str) -> list[str]:
    program = programs.tickcast(*arguments)
    assert program.wait() == 0, program.errors
    return program.lines


SLOW = """
import time
import numpy as np
import tickcast as tc

rules = tc.RuleSet("slow")

@rules.check(reason="no")
def slow(ticks):
    time.sleep(0.1)
    return np.ones(len(ticks), bool)
"""


def test_the_lag_of_each_partition_is_told_and_falls_to_nothing(
    kafka_server: KafkaServer, programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    address = kafka_server.address
    kafka_server.create_topic("lag", 3)
    (tmp_path / "slow_rules.py").write_text(SLOW)
    publisher = Publisher(address, "lag")
    for number, tick in enumerate(make_ticks(600)):
        publisher.send(as_proto(tick), key=str(number))
    publisher.flush()
    small = ("--set", "judge.batch_rows=10", "--set", "judge.in_flight=1", "--set", "tape.bytes=16MiB")
    program = programs.tickcast(
        "process", "--source", f"kafka://{address}/lag?group=l", "--run-dir", str(run_dir), *small,
        "--rules", "slow_rules:rules", cwd=tmp_path,
    )  # fmt: skip
    program.expect("ready", 30)

    def lags() -> dict[str, int | None]:
        board = json.loads(TapeReader.open(run_dir).board())
        return {partition["name"]: partition["lag"] for partition in board["partitions"]}

    names = ["lag/0", "lag/1", "lag/2"]
    seen = wait_until(lambda: (found := lags()) and all((found.get(name) or 0) > 10 for name in names) and found, "lag")
    assert sum(lag or 0 for lag in seen.values()) <= 600
    wait_until(lambda: lags() == dict.fromkeys(names, 0), "no lag", 60)
    assert 'tickcast_source_lag{partition="lag/1"} 0.0' in metrics.render(run_dir / "metrics").decode()
    assert program.end() == 0


async def test_what_waits_of_several_partitions_comes_in_one_batch(kafka_server: KafkaServer, tmp_path: Path) -> None:
    kafka_server.create_topic("together", 4)
    config = Config(source=f"kafka://{kafka_server.address}/together?group=t", run_dir=str(tmp_path))
    source = open_source(config, 0)
    publisher, offsets = Publisher(kafka_server.address, "together"), dict.fromkeys(range(4), 0)
    await source.open([])
    try:
        async with asyncio.timeout(60):
            together, published, came = 0, 0, 0
            # A partition's first messages come by themselves: its windows begin anew.
            while together < 4 or came < published:
                if came == published:
                    for number, tick in enumerate(make_ticks(200)):
                        publisher.send(as_proto(tick), key=str(number))
                    await asyncio.to_thread(publisher.flush)
                    published += 200
                batch = await source.next(4096)
                came += batch.rows
                for _, partition, offset, _ in batch.last_positions:
                    assert offset >= offsets[partition]
                    offsets[partition] = offset + 1
                together = max(together, len(batch.last_positions))
        assert sum(offsets.values()) == published
    finally:
        await source.close()
