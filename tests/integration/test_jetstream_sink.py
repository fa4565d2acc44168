"""``nats://`` and ``jetstream://`` as sinks, and JetStream → JetStream with kills and a restarted server."""

import asyncio
import json
import os
import random
import shutil
import time
from pathlib import Path

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StreamConfig

from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import as_proto, make_ticks
from tickcast._core import TapeReader
from tickcast.gateway import metrics

TICKS = int(os.environ.get("TICKCAST_TEST_LOG_TICKS", "100000"))
PUBLISH_S = float(os.environ.get("TICKCAST_TEST_LOG_SECONDS", "20"))
PATIENCE_S = 60 + TICKS // 2000

pytestmark = [pytest.mark.nats, pytest.mark.timeout(2 * PUBLISH_S + 2 * PATIENCE_S)]


def process(programs: Programs, run_dir: Path, source: str, sink: str) -> Program:
    flags = ("--source", source, "--sink", sink, "--run-dir", str(run_dir), "--set", "tape.bytes=128MiB")
    return programs.tickcast("process", *flags, "--set", "grpc.port=0")


async def read(server: NatsServer, stream: str, enough: int, timeout_s: float) -> list:
    """Return the messages of a stream once there are enough."""
    client = await nats.connect(server.url)
    try:
        context = client.jetstream()
        deadline = time.monotonic() + timeout_s
        while (await context.stream_info(stream)).state.messages < enough:
            there = (await context.stream_info(stream)).state.messages
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {enough} messages, there are {there}"
            await asyncio.sleep(0.1)
        everything = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
        subscription = await context.pull_subscribe("", stream=stream, config=everything)
        messages = []
        while len(messages) < (await context.stream_info(stream)).state.messages:
            messages += await subscription.fetch(5000, timeout=5)
        return messages
    finally:
        await client.close()


async def test_trades_go_to_subjects_by_instrument_with_their_headers(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="TRADES", subjects=["trades.>"]))
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    for name in ("AAPL", "BTC/USD", "BRK.B"):
        trace = {"traceparent": f"of {name}"} if name != "AAPL" else None
        await context.publish("ticks", as_proto((name, 10.0, 5, 17)), headers=trace)
    address = nats_server.url.removeprefix("nats://")
    program = process(
        programs, run_dir, f"jetstream://{address}/ticks", f"jetstream://{address}/trades.*?stream=TRADES"
    )
    messages = await read(nats_server, "TRADES", 3, 30)
    assert [m.subject for m in messages] == ["trades.AAPL", "trades.BTC_USD", "trades.BRK_B"]
    for sequence, message in enumerate(messages, 1):
        trade = json.loads(message.data)
        assert message.headers["Nats-Msg-Id"] == trade["tradeId"] == message.headers["tickcast-trade-id"]
        assert message.headers["tickcast-sequence"] == str(sequence)
        assert message.headers["tickcast-rules"].startswith("screen@")
        name = trade["instrumentId"]
        assert message.headers.get("traceparent") == (f"of {name}" if name != "AAPL" else None)
    await client.close()
    assert program.end() == 0


async def test_an_instrument_that_no_subject_can_name_stops_nothing(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="TRADES", subjects=["trades.>"]))
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    for name in ("AB\x01C", "L" * 4090, "", "AAPL"):
        await context.publish("ticks", as_proto((name, 10.0, 5, 17)))
    address = nats_server.url.removeprefix("nats://")
    program = process(
        programs, run_dir, f"jetstream://{address}/ticks", f"jetstream://{address}/trades.*?stream=TRADES"
    )
    messages = await read(nats_server, "TRADES", 4, 30)
    assert [m.subject for m in messages] == ["trades.AB_C", f"trades.{'L' * 128}", "trades._", "trades.AAPL"]
    await client.close()
    assert program.end() == 0


async def test_a_stream_that_is_made_later_gets_every_trade(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    sink = f"jetstream://{nats_server.url.removeprefix('nats://')}/later?stream=LATER"
    program = process(programs, run_dir, "sim://?rate=200", sink)
    await asyncio.to_thread(wait_until, lambda: "there is no stream" in state(run_dir), "it says what is missing")
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(StreamConfig(name="LATER", subjects=["later"]))
    messages = await read(nats_server, "LATER", 100, 30)
    assert [int(message.headers["tickcast-sequence"]) for message in messages[:100]] == list(range(1, 101))
    await client.close()
    assert program.end() == 0


@pytest.mark.parametrize("scheme", ["nats", "jetstream"])
async def test_a_processor_ends_while_the_server_is_away_and_writes_the_rest_when_it_is_back(
    nats_server: NatsServer, programs: Programs, run_dir: Path, scheme: str
) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(StreamConfig(name="TRADES", subjects=["trades"]))
    await client.close()
    urls = ("sim://?rate=2000&seed=3", f"{scheme}://{nats_server.url.removeprefix('nats://')}/trades")
    program = process(programs, run_dir, *urls)
    await read(nats_server, "TRADES", 500, 30)
    nats_server.pause()
    try:
        await asyncio.to_thread(wait_until, lambda: lag(run_dir) > 500, "trades wait")
        assert await asyncio.to_thread(program.end, timeout_s=60) == 0
    finally:
        nats_server.resume()
    assert [line for line in program.errors if "trades are left for the next start" in line]
    before = TapeReader.open(run_dir).head
    again = process(programs, run_dir, *urls)
    messages = await read(nats_server, "TRADES", before + 500, 30)
    assert again.end() == 0
    assert {int(message.headers["tickcast-sequence"]) for message in messages} >= set(range(1, before + 1))


async def test_a_subject_that_may_not_be_published_to_keeps_the_trades_on_the_tape(
    programs: Programs, run_dir: Path
) -> None:
    us = '{user: us, password: p, permissions: {publish: "_INBOX.>"}}'
    with NatsServer({"authorization": f"{{users: [{us}]}}"}) as server:
        sink = server.url.replace("nats://", "nats://us:p@") + "/out"
        program = process(programs, run_dir, "sim://?rate=500", sink)
        said = 'Permissions Violation for Publish to "out"'
        await asyncio.to_thread(wait_until, lambda: said in state(run_dir), "it says what is not permitted")
        await asyncio.to_thread(wait_until, lambda: lag(run_dir) > 500, "trades wait")
        assert await asyncio.to_thread(program.end, timeout_s=60) == 0
    assert [line for line in program.errors if "trades are left for the next start" in line and said in line]


async def test_a_position_that_cannot_be_saved_is_told_and_so_is_that_it_can_again(
    nats_server: NatsServer, programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    await context.publish("ticks", as_proto(("AAPL", 10.0, 5, 17)))
    bucket = await context.create_key_value(bucket="tickcast", max_value_size=1)
    source = f"jetstream://{nats_server.url.removeprefix('nats://')}/ticks?durable=desk"
    program = process(programs, run_dir, source, f"jsonl:{tmp_path / 'trades'}")

    def told(text: str) -> list[str]:
        return [line for line in program.errors if f"saving the source's position {text}" in line]

    await asyncio.to_thread(wait_until, lambda: told("does not work: cannot save position"), "it is told")
    shown = json.loads(TapeReader.open(run_dir).board() or b"{}")["source"]
    assert shown["state"] == "live"
    assert 'cannot save position "desk"' in shown["detail"]
    config = (await context.stream_info("KV_tickcast")).config
    await context.update_stream(config.evolve(max_msg_size=-1))
    await asyncio.to_thread(wait_until, lambda: told("works again"), "it is told that it works")
    assert json.loads((await bucket.get("desk")).value or b"")["sequence"] == 1
    assert program.end() == 0
    assert len(told("")) == 2
    assert not [line for line in program.errors if "the source does not work" in line]
    await client.close()


async def test_what_is_refused_is_sent_again_alone_and_the_tape_confirmed_up_to_it(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    # What is sent twice is there twice: the window is soon over.
    full = StreamConfig(name="OUT", subjects=["out"], max_msgs=4, discard=DiscardPolicy.NEW, duplicate_window=0.1)
    await context.add_stream(full)
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    for number in range(10):
        await context.publish("ticks", as_proto(("AAPL", 10.0, 5, number + 1)))
    address = nats_server.url.removeprefix("nats://")
    program = process(programs, run_dir, f"jetstream://{address}/ticks", f"jetstream://{address}/out?stream=OUT")
    await asyncio.to_thread(wait_until, lambda: "maximum messages exceeded" in state(run_dir), "it is full")
    await asyncio.to_thread(wait_until, lambda: lag(run_dir) == 6, "four are confirmed")
    await context.update_stream(full.evolve(max_msgs=-1))
    await asyncio.to_thread(wait_until, lambda: lag(run_dir) == 0, "all are confirmed")
    messages = await read(nats_server, "OUT", 10, 30)
    assert sorted(int(message.headers["tickcast-sequence"]) for message in messages) == list(range(1, 11))
    await client.close()
    assert program.end() == 0


async def test_a_trade_too_large_for_its_stream_is_passed_over_and_its_neighbours_are_there_once(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    config = StreamConfig(name="OUT", subjects=["out"], max_msg_size=1, duplicate_window=0.1)
    await context.add_stream(config)
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    for name in ("AAPL", "MSFT", "L" * 2000, "AAPL", "L" * 2001):
        await context.publish("ticks", as_proto((name, 10.0, 5, 17)))
    address = nats_server.url.removeprefix("nats://")
    program = process(programs, run_dir, f"jetstream://{address}/ticks", f"jetstream://{address}/out?stream=OUT")
    # Where nothing fits, nothing is passed over.
    await asyncio.to_thread(wait_until, lambda: "size exceeds" in state(run_dir), "all are refused")
    await context.update_stream(config.evolve(max_msg_size=1500))
    await asyncio.to_thread(wait_until, lambda: lag(run_dir) == 0 and state(run_dir) == "live", "it goes on")
    for name in ("IBM", "L" * 2002, "MSFT"):
        await context.publish("ticks", as_proto((name, 10.0, 5, 18)))
    await asyncio.to_thread(wait_until, lambda: TapeReader.open(run_dir).head == 8, "the others are judged")
    await asyncio.to_thread(wait_until, lambda: lag(run_dir) == 0 and state(run_dir) == "live", "it goes on again")
    messages = await read(nats_server, "OUT", 5, 30)
    assert sorted(int(message.headers["tickcast-sequence"]) for message in messages) == [1, 2, 4, 6, 8]
    counted = f'tickcast_sink_lost_total{{sink="jetstream://{address}/out?stream=OUT"}} 3.0'
    await asyncio.to_thread(
        wait_until, lambda: counted in metrics.render(run_dir / "metrics").decode(), "it is counted"
    )
    await client.close()
    assert program.end() == 0
    lost = [line.partition("lost to it: ")[2][0] for line in program.errors if "refuses trades for good" in line]
    assert sum(map(int, lost)) == 3


async def test_a_message_of_many_trades_is_known_by_its_first_and_its_last(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="MANY", subjects=["many"]))
    sink = f"jetstream://{nats_server.url.removeprefix('nats://')}/many?stream=MANY&format=proto-batch"
    program = process(programs, run_dir, "sim://?rate=500&instruments=3", sink)
    for message in await read(nats_server, "MANY", 10, 30):
        known = (message.headers["tickcast-trade-id"], message.headers["tickcast-sequence"])
        assert message.headers["Nats-Msg-Id"] == "-".join(known)
    await client.close()
    assert program.end() == 0


def lag(run_dir: Path) -> int:
    return shown(run_dir)["lag"]


def state(run_dir: Path) -> str:
    return shown(run_dir)["state"] if (run_dir / "tape").exists() else ""


def shown(run_dir: Path) -> dict:
    """What the board says of the first sink."""
    board = json.loads(TapeReader.open(run_dir).board() or b"{}")
    return board["sinks"][0] if board.get("sinks") else {"lag": 0, "state": ""}


async def test_without_headers_a_stream_still_gets_the_ids_that_it_knows_trades_by(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="BARE", subjects=["bare"]))
    await context.add_stream(StreamConfig(name="BARETICKS", subjects=["bareticks"]))
    await context.publish("bareticks", as_proto(("AAPL", 10.0, 5, 17)))
    address = nats_server.url.removeprefix("nats://")
    sink = f"jetstream://{address}/bare?stream=BARE&headers=false"
    program = process(programs, run_dir, f"jetstream://{address}/bareticks", sink)
    (message,) = await read(nats_server, "BARE", 1, 30)
    assert message.headers == {"Nats-Msg-Id": json.loads(message.data)["tradeId"]}
    await client.close()
    assert program.end() == 0


async def test_a_core_subject_gets_every_trade(nats_server: NatsServer, programs: Programs, run_dir: Path) -> None:
    client = await nats.connect(nats_server.url)
    got: list[dict] = []

    async def take(message) -> None:
        got.append(json.loads(message.data))

    await client.subscribe("out", cb=take)
    await client.flush()
    address = nats_server.url.removeprefix("nats://")
    program = process(programs, run_dir, "sim://?rate=2000&faults=0", f"nats://{address}/out")
    deadline = time.monotonic() + 30
    while len(got) < 500:
        assert time.monotonic() < deadline, len(got)
        await asyncio.sleep(0.05)
    assert program.end() == 0
    await client.flush()
    assert len({trade["tradeId"] for trade in got}) == len(got)
    await client.close()


async def publish(server: NatsServer, ticks: list, seconds: float) -> None:
    """Publish to the stream, evenly over `seconds`; each tick once, whatever becomes of the server."""
    from tickcast._core import NatsPublisher

    publisher = NatsPublisher(server.url, "ticks", stream="TICKS")
    start = time.monotonic()
    step = max(1, int(len(ticks) / seconds / 20))
    for at in range(0, len(ticks), step):
        some = ticks[at : at + step]
        ids = [f"tick-{at + number}" for number in range(len(some))]
        await asyncio.to_thread(publisher.publish, [as_proto(t) for t in some], message_ids=ids, timeout=30.0)
        await asyncio.sleep(max(0.0, start + at / len(ticks) * seconds - time.monotonic()))
    await asyncio.to_thread(publisher.flush, 30.0)
    publisher.close()


@pytest.mark.parametrize("keeps_tape", [True, False], ids=["tape", "no-tape"])
async def test_killed_processors_and_a_restarted_server_change_nothing(
    nats_server: NatsServer, programs: Programs, tmp_path: Path, keeps_tape: bool
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    for name, subject in (("TICKS", "ticks"), ("OUT", "out"), ("REFERENCE", "reference")):
        await context.add_stream(StreamConfig(name=name, subjects=[subject]))
    await client.close()
    address = nats_server.url.removeprefix("nats://")
    source = f"jetstream://{address}/ticks?durable=desk"
    count = TICKS if keeps_tape else TICKS // 5
    ticks = make_ticks(count)
    publishing = asyncio.create_task(publish(nats_server, ticks, PUBLISH_S))
    chance, rounds = random.Random(3), 0
    program = process(programs, tmp_path / "killed", source, f"jetstream://{address}/out")
    while not publishing.done():
        await asyncio.wait([publishing], timeout=chance.uniform(2.0, 4.0))
        program.kill()
        rounds += 1
        if not keeps_tape:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)  # it may have died before it had one
        if rounds == 2:
            await asyncio.to_thread(nats_server.restart)
        program = process(programs, tmp_path / "killed", source, f"jetstream://{address}/out")
    await publishing
    found = await read(nats_server, "OUT", count, PATIENCE_S)
    assert program.end() == 0
    program = process(
        programs, tmp_path / "reference", f"jetstream://{address}/ticks", f"jetstream://{address}/reference"
    )
    expected = await read(nats_server, "REFERENCE", count, PATIENCE_S)
    assert program.end() == 0
    assert rounds > 2
    assert len(found) == count, "a trade is there twice"
    assert [message.data for message in found] == [message.data for message in expected]
