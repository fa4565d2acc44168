"""The binding of NATS and JetStream, from asyncio, against a real nats-server."""

import asyncio
import json
import threading
import time

import pytest

from fixtures.processes import wait_until
from tickcast._core import Batch, JetStreamSource, NatsPublisher, NatsSource
from tickcast.errors import ConfigError, SourceError

pytestmark = pytest.mark.nats

PATIENCE_S = 20.0


def payloads(start, stop):
    """Return ticks whose volume is their number."""
    return [
        json.dumps({"instrumentId": "ABC", "price": 39.5, "volume": n, "timestampNs": "1700000000000000000"}).encode()
        for n in range(start, stop)
    ]


def publisher(server, **options):
    options = {"stream": "TICKS", "create": True} | options
    return NatsPublisher(server.url, "ticks", **options)


async def pull(source, messages):
    """Await batches through the descriptor until so many messages came; the batches."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(source.fileno(), readable.set)
    batches = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while sum(batch.messages for batch in batches) < messages:
                await readable.wait()
                readable.clear()
                if batch := source.poll(1000):
                    assert isinstance(batch, Batch)
                    batches.append(batch)
    finally:
        loop.remove_reader(source.fileno())
    return batches


def live(source):
    wait_until(lambda: source.state()[0] == "live", "live")


async def test_batches_come_through_the_descriptor(nats_server):
    source = JetStreamSource(nats_server.url, "ticks", stream="TICKS", create=True)
    live(source)
    sender = publisher(nats_server)
    assert sender.publish(payloads(0, 500)) == 500
    batches = await pull(source, 500)
    assert sum(batch.rows for batch in batches) == 500
    assert all(batch.undecodable == [] for batch in batches)
    stream, sequence, decided = source.started
    assert batches[-1].last_positions == [(stream, 0, 500, 65_535)]
    assert (sequence, decided) == (1, "all")
    assert source.meters()["messages"] == 500
    sender.flush()
    assert sender.published() == {
        "confirmed": 500, "duplicates": 0, "failed": 0, "unconfirmed": 0, "waiting": 0, "last_failure": None,
    }  # fmt: skip
    sender.close()
    source.close()
    with pytest.raises(SourceError, match="is closed"):
        source.poll()


async def test_what_can_not_be_decoded_keeps_its_subject_and_headers(nats_server):
    source = NatsSource(nats_server.url, "ticks.*")
    live(source)
    sender = NatsPublisher(nats_server.url, "ticks.b", format="json")
    good = json.loads(payloads(0, 1)[0])
    sender.publish(b"{", subject="ticks.a")
    sender.publish(json.dumps([good, good | {"price": "no"}, good]).encode(), headers={"who": "us"})
    batches = await pull(source, 2)
    stated = ("tickcast-format", b"json")
    assert [letter for batch in batches for letter in batch.letters] == [
        (b"ticks.a", [stated], False),
        (b"ticks.b", [stated, ("who", b"us")], True),
    ]
    sender.close()
    source.close()


async def test_a_killed_server_is_waited_for_and_nothing_is_missing_or_doubled(nats_server):
    sender = publisher(nats_server)
    sender.flush()
    source = JetStreamSource(nats_server.url, "ticks", stream="TICKS")
    live(source)
    total = 6_000

    def send():
        for start in range(0, total, 50):
            ids = [f"m{n}" for n in range(start, start + 50)]
            assert sender.publish(payloads(start, start + 50), message_ids=ids) == 50

    thread = threading.Thread(target=send)
    thread.start()
    batches = await pull(source, 1_000)
    nats_server.kill()
    wait_until(lambda: source.state()[0] == "reconnecting", "reconnecting")
    nats_server.start()
    batches += await pull(source, total - sum(batch.messages for batch in batches))
    await asyncio.to_thread(thread.join)
    sender.flush(PATIENCE_S)
    assert sender.published()["confirmed"] == total
    assert sum(batch.rows for batch in batches) == total
    assert [batch.last_positions for batch in batches] == sorted(batch.last_positions for batch in batches)
    assert batches[-1].last_positions[0][2] == total
    assert (source.lost, source.meters()["lost_at_most"]) == (0, 0)
    source.close()
    sender.close()


async def test_a_hung_server_is_noticed_and_read_on_from_when_it_wakes(nats_server):
    sender = publisher(nats_server)
    sender.publish(payloads(0, 10))
    sender.flush()
    source = JetStreamSource(nats_server.url, "ticks", stream="TICKS")
    await pull(source, 10)
    nats_server.pause()
    await asyncio.to_thread(wait_until, lambda: source.state()[0] == "reconnecting", "noticed")
    assert "no heartbeat" in source.state()[2] or "cannot connect" in source.state()[2]
    nats_server.resume()
    sender.publish(payloads(10, 20), message_ids=[f"m{n}" for n in range(10, 20)])
    (batch,) = await pull(source, 10)
    assert batch.last_positions[0][2] == 20
    source.close()
    sender.close()


async def test_a_position_is_read_on_from_and_kept_under_its_name(nats_server):
    sender = publisher(nats_server)
    sender.publish(payloads(0, 100))
    sender.flush()
    first = JetStreamSource(nats_server.url, "ticks", stream="TICKS", durable="desk")
    await pull(first, 100)
    assert first.load_position() is None
    stream = first.started[0]
    first.save_position(stream, 60)
    first.save_position(stream ^ 1, 95)
    wait_until(lambda: first.saved_position == (60, 65_535), "saved")
    assert first.save_trouble is None
    first.close()
    for positions, behind, silent, decided in [
        ([(stream, 0, 90, 65_535)], 90, 0, "position"),
        ([(stream, 0, 20, 0)], 60, 40, "durable"),
        ([(stream ^ 1, 0, 95, 0)], 60, 60, "durable"),
    ]:
        source = JetStreamSource(nats_server.url, "ticks", stream="TICKS", durable="desk", positions=positions)
        batches = await pull(source, silent + 100 - behind)
        assert sum(batch.rows for batch in batches if batch.silent) == silent
        assert sum(batch.rows for batch in batches if not batch.silent) == 100 - behind
        assert all(batch.broker_ns > time.time_ns() - 3600 * 10**9 for batch in batches)
        assert source.waiting == silent + 100 - behind
        assert source.started == (stream, behind + 1, decided)
        assert source.load_position() == (60, 65_535)
        source.close()


async def test_core_nats_comes_with_a_random_stream_and_a_counter(nats_server):
    source = NatsSource(nats_server.url, "ticks", queue="desk")
    live(source)
    sender = NatsPublisher(nats_server.url, "ticks")
    sender.publish(payloads(0, 20))
    sender.publish(b"no tick")
    batches = await pull(source, 21)
    (position, payload, _why) = batches[-1].undecodable[-1]
    assert (position[2], payload) == (21, b"no tick")
    other = NatsSource(nats_server.url, "ticks")
    live(other)
    sender.publish(payloads(0, 1)[0], headers={"tickcast-format": "json"})
    assert (await pull(other, 1))[0].last_positions[0][0] != position[0]
    assert source.lost == 0
    for closing in (source, other, sender):
        closing.close()


def test_what_is_refused_is_said_in_one_line(nats_server):
    missing = JetStreamSource(nats_server.url, "ticks", stream="NOSUCH")
    wait_until(lambda: missing.state()[0] == "failed", "failed")
    with pytest.raises(SourceError, match=r"^jetstream://127\.0\.0\.1:\d+/ticks\?stream=NOSUCH: there is no stream"):
        missing.poll()
    for wrong, text in [
        (lambda: JetStreamSource("http://me:secret@x", "ticks"), r"^servers = http://\*\*\*@x: one or more of nats://"),
        (lambda: JetStreamSource(nats_server.url, "a..b"), "^subject = a..b: "),
        (lambda: JetStreamSource(nats_server.url, "ticks", start="now"), "^start = now: all or new"),
        (lambda: JetStreamSource(nats_server.url, "ticks", durable="a b"), "^durable = a b: "),
        (lambda: NatsSource(nats_server.url, "ticks", format="xml"), "^format = xml: proto, proto-batch or json"),
        (lambda: NatsSource(nats_server.url, "ticks", volume_scale=3), "^volume_scale = 3: "),
        (lambda: NatsSource([], "ticks"), "^servers = : "),
        (lambda: NatsPublisher(nats_server.url, "ticks.*"), r"^subject = ticks\.\*: "),
    ]:
        with pytest.raises(ConfigError, match=text):
            wrong()


def test_waiting_releases_the_gil_and_takes_no_longer_than_asked(nats_server):
    source = NatsSource(nats_server.url, "ticks")
    live(source)
    source.poll()
    turns = 0
    done = threading.Event()

    def count():
        nonlocal turns
        while not done.wait(0.001):
            turns += 1

    thread = threading.Thread(target=count)
    thread.start()
    began = time.monotonic()
    assert source.wait(0.3) is False
    took = time.monotonic() - began
    done.set()
    thread.join()
    assert 0.3 <= took < 5
    assert turns > 10


def test_a_publisher_that_reaches_nobody_says_so(nats_server):
    nats_server.kill()
    sender = publisher(nats_server, window=3)
    assert sender.publish(payloads(0, 5), timeout=0.05) == 3
    with pytest.raises(TimeoutError, match=r"3 messages are not confirmed; cannot connect to 127\.0\.0\.1:"):
        wait_until(lambda: "cannot connect" in sender.state()[2], "tried")
        sender.flush(0.1)
    sender.close(0.0)
    assert sender.published()["unconfirmed"] == 3
    with pytest.raises(SourceError, match="is closed"):
        sender.publish(b"")


@pytest.mark.parametrize("kind", [NatsSource, JetStreamSource, NatsPublisher])
def test_classes_are_frozen(kind, nats_server):
    thing = kind(nats_server.url, "ticks")
    with pytest.raises(AttributeError):
        thing.note = 1
    thing.close()
