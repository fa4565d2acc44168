"""The client against real servers of both kinds, on a tape that the test writes: every trade once, gaps told."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import trustme

import tickcast.client
from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs, free_port
from fixtures.tapeserver import TapeServer
from tickcast.client import Batch, Gap, LinkLostError, LinkRefusedError, Lost, Place, Snapshot, Status, Trade
from tickcast.errors import ConfigError
from tickcast.retry import Limits

QUICK = Limits(first_s=0.01, longest_s=0.05, open_s=0.05, longest_open_s=0.1)


@pytest.fixture
def feed(run_dir: Path) -> Iterator[Feed]:
    made = Feed(run_dir, enrichments=[("notional", "USD")])
    yield made
    made.close()


@pytest.fixture(params=["ws", "grpc"])
async def server(request: pytest.FixtureRequest, feed: Feed, programs: Programs, run_dir: Path) -> AsyncIterator[str]:
    """The address of a server of each kind."""
    if request.param == "ws":
        yield (await asyncio.to_thread(Gateway.start, programs, run_dir)).ws
    else:
        async with TapeServer(run_dir) as served:
            yield served.url


def number(trade: Trade) -> int:
    """The feed gives trade `n` of the tape volume `n`."""
    assert trade.volume == trade.seq
    return trade.seq


async def some(subscription: tickcast.client.Subscription, count: int) -> list[Trade]:
    got: list[Trade] = []
    async with asyncio.timeout(30), aclosing(subscription.trades()) as trades:
        async for trade in trades:
            got.append(trade)
            if len(got) == count:
                break
    return got


async def test_trades_come_typed_in_order_and_the_place_is_right_behind(server: str, feed: Feed) -> None:
    feed.add(100)
    subscription = tickcast.client.subscribe(server, from_seq=1)
    got = await some(subscription, 73)
    assert [number(trade) for trade in got] == list(range(1, 74))
    assert (got[0].status, got[0].instrument_id, got[0].vwap_20m, got[0].reason) == ("VALID", "SYM1", 100.25, None)
    assert (got[9].status, got[9].reason, got[9].vwap_20m) == ("INVALID", "Too far", None)
    assert subscription.place == Place(epoch=feed.writer.epoch, next_seq=74)
    rest = await some(tickcast.client.subscribe(server, place=subscription.place), 27)
    assert [number(trade) for trade in rest] == list(range(74, 101))


async def test_only_what_is_asked_for_comes(server: str, feed: Feed) -> None:
    feed.add(200)
    subscription = tickcast.client.subscribe(server, ["SYM0", "SYM3"], status="INVALID", from_seq=1)
    got = await some(subscription, 20)
    assert [number(trade) for trade in got] == list(range(10, 201, 10))
    assert subscription.gaps == []


async def test_batches_have_columns_of_numpy_and_arrow(server: str, feed: Feed) -> None:
    feed.add(50)
    async with aclosing(tickcast.client.subscribe(server, from_seq=1).batches()) as batches:
        batch = await anext(batches)
    assert isinstance(batch, Batch)
    assert batch.volume.dtype == np.int64
    assert batch.volume.tolist() == batch.seq.tolist() == list(range(1, 51))
    assert np.isnan(batch.vwap_20m[9])
    assert np.isnan(batch.enrichments["notional"]).all()
    table = batch.to_numpy()
    assert table["instrument_id"][6] == "SYM2"
    assert table["reason"][9] == "Too far"
    arrow = pytest.importorskip("pyarrow")
    record = batch.to_arrow()
    assert isinstance(record, arrow.RecordBatch)
    assert record.column("vwap_20m").null_count == 5
    assert record.column("status").to_pylist()[8:10] == ["VALID", "INVALID"]


async def test_latest_gives_the_newest_and_counts_what_it_leaves_out(server: str, feed: Feed) -> None:
    head = feed.add(3_000)
    subscription = tickcast.client.subscribe(server, from_seq=1, mode="latest", max_rate_hz=20)
    async with asyncio.timeout(30), aclosing(subscription.batches()) as batches:
        came, conflated, covered = 0, 0, 0
        while covered < head:
            batch = await anext(batches)
            assert isinstance(batch, Batch)
            assert (batch.first_seq, len(set(batch.instrument_id))) == (covered + 1, len(batch))
            came, conflated, covered = came + len(batch), conflated + batch.conflated, batch.last_seq
    assert batch.seq.tolist() == list(range(2_996, 3_001))
    assert (came + conflated, subscription.place) == (head, Place(epoch=feed.writer.epoch, next_seq=head + 1))
    with pytest.raises(ConfigError, match="mode: must be"):
        tickcast.client.subscribe(server, mode="newest")
    with pytest.raises(ConfigError, match="max_rate_hz: must be"):
        tickcast.client.subscribe(server, max_rate_hz=0)


async def test_snapshot_and_status_are_events(server: str, feed: Feed) -> None:
    feed.add(30)
    got = []
    async with asyncio.timeout(30), aclosing(tickcast.client.subscribe(server, snapshot=True).events()) as events:
        async for event in events:
            got.append(event)
            if isinstance(event, Snapshot):
                break
    assert any(isinstance(event, Status) and event.source == "sim://" for event in got)
    # Of each of five instruments the newest that is VALID; every tenth is not.
    assert [int(seq) for seq in got[-1].batch.seq] == [25, 26, 27, 28, 29]


async def test_what_the_tape_no_longer_has_is_a_gap(server: str, feed: Feed) -> None:
    head = feed.add(30_000)
    got = []
    subscription = tickcast.client.subscribe(server, place=Place(epoch=feed.writer.epoch, next_seq=1))
    async with asyncio.timeout(30), aclosing(subscription.batches()) as batches:
        async for item in batches:
            got.append(item)
            break
    assert got == [Gap(first=1, last=head, why="overrun")] == subscription.gaps


async def test_server_that_comes_back_is_found_and_nothing_is_missing(feed: Feed, run_dir: Path) -> None:
    port = free_port()
    first = TapeServer(run_dir, port=port)
    await first.__aenter__()
    got: list[object] = []
    feed.add(10)

    async def follow() -> None:
        subscription = tickcast.client.subscribe(first.url, from_seq=1, limits=QUICK)
        async with aclosing(subscription.events()) as events:
            async for event in events:
                got.append(event)
                if isinstance(event, Trade) and event.seq == 40:
                    return

    following = asyncio.create_task(follow())
    async with asyncio.timeout(30):
        while not any(isinstance(event, Trade) and event.seq == 10 for event in got):
            await asyncio.sleep(0.01)
        await first.stop()
        feed.add(20)
        while not any(isinstance(event, Lost) for event in got):
            await asyncio.sleep(0.01)
        async with TapeServer(run_dir, port=port):
            feed.add(10)
            await following
    assert [number(trade) for trade in got if isinstance(trade, Trade)] == list(range(1, 41))
    assert not [event for event in got if isinstance(event, Gap)]


async def test_whoever_just_leaves_the_loop_is_told_of_no_error(server: str, feed: Feed, programs: Programs) -> None:
    feed.add(100)
    script = """
import asyncio, sys, tickcast.client

async def main():
    async for trade in tickcast.client.subscribe(sys.argv[1], from_seq=1):
        if trade.seq == 3:
            break
    print("left")

asyncio.run(main())
"""
    program = programs.python("-X", "dev", "-c", script, server)
    assert await asyncio.to_thread(program.expect, "left") == "left"
    assert await asyncio.to_thread(program.wait) == 0
    assert not [line for line in program.errors if "Error" in line or "exception" in line], program.errors


async def test_sync_form_gives_the_same(server: str, feed: Feed) -> None:
    feed.add(60)

    def take() -> list[int]:
        with tickcast.client.subscribe_sync(server, from_seq=1) as subscription:
            out = []
            for trade in subscription:
                out.append(number(trade))
                if len(out) == 60:
                    return out
        return out

    threads = threading.active_count()
    assert await asyncio.wait_for(asyncio.to_thread(take), 30) == list(range(1, 61))
    async with asyncio.timeout(10):
        while any(thread.name == "tickcast-client" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
    assert threading.active_count() <= threads + 2


@pytest.mark.parametrize("form", ["trades", "batches", "events", "frames"])
async def test_sync_form_has_every_form(server: str, feed: Feed, form: str) -> None:
    feed.add(20)

    def take() -> list[int]:
        out: list[int] = []
        with tickcast.client.subscribe_sync(server, from_seq=1) as subscription:
            for item in getattr(subscription, form)():
                if isinstance(item, Batch):
                    out += [number(trade) for trade in item.trades()]
                elif isinstance(item, Trade):
                    out.append(number(item))
                if len(out) == 20:
                    break
        return out

    assert await asyncio.wait_for(asyncio.to_thread(take), 30) == list(range(1, 21))


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "grpc://127.0.0.1:1"])
async def test_nobody_there_is_said_at_once(url: str) -> None:
    with pytest.raises(LinkLostError, match=r"127\.0\.0\.1:1"):
        await some(tickcast.client.subscribe(url), 1)

    def take() -> None:
        next(iter(tickcast.client.subscribe_sync(url)))

    with pytest.raises(LinkLostError, match=r"127\.0\.0\.1:1"):
        await asyncio.to_thread(take)


async def test_wrong_wishes_are_refused(server: str, feed: Feed) -> None:
    with pytest.raises(ConfigError, match="status"):
        tickcast.client.subscribe(server, status="FINE")
    with pytest.raises(ConfigError, match=r"instruments: must be several, such as \['AAPL'\]"):
        tickcast.client.subscribe(server, "AAPL")
    with pytest.raises(ConfigError, match="from_seq"):
        tickcast.client.subscribe(server, from_seq=0)
    with pytest.raises(LinkRefusedError):
        await some(tickcast.client.subscribe(server, [f"S{n}" for n in range(10_001)]), 1)


async def test_token_and_certificates_are_shown_where_a_server_asks_for_them(
    programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = {"ca": authority.cert_pem.bytes()}
    for name, issued in (("server", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("a@desk"))):
        files[f"{name}.pem"] = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        files[f"{name}.key"] = issued.private_key_pem.bytes()
    paths = {name: tmp_path / name for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    settings = {"auth_token": "sesame", "tls_cert": paths["server.pem"], "tls_key": paths["server.key"]}
    settings["tls_client_ca"] = paths["ca"]
    options = [word for key, value in settings.items() for word in ("--set", f"grpc.{key}={value}")]
    source = ("--source", "sim://?rate=500", "--grpc-port", "0", "--run-dir", str(run_dir))
    program = programs.tickcast("process", *source, *options)
    address = (await asyncio.to_thread(program.expect, "ready")).split("grpc=")[1]
    url = f"grpc://{address}?ca={paths['ca']}&cert={paths['client.pem']}&key={paths['client.key']}"
    assert len(await some(tickcast.client.subscribe(url, token="sesame"), 10)) == 10
    assert len(await some(tickcast.client.subscribe(f"{url}&token=sesame"), 10)) == 10
    with pytest.raises(LinkRefusedError, match="UNAUTHENTICATED"):
        await some(tickcast.client.subscribe(url), 1)
    with pytest.raises(LinkLostError):
        await some(tickcast.client.subscribe(f"grpc://{address}?ca={paths['ca']}", token="sesame"), 1)
