"""The main job, end to end: a tick from a real queue, judged by Python rules, to every client."""

import asyncio
import csv
import gzip
import json
import urllib.request
from pathlib import Path

import pytest

from fixtures.follower import Follower
from fixtures.recorded import RECORDED
from fixtures.serving import Served, run_tickcast, until

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]

RULES = """
import numpy as np
import tickcast as tc

rules = tc.RuleSet("desk")

@rules.check(reason="Too far from the 20-minute VWAP")
def near_vwap(ticks):
    return ~(np.abs(ticks.price / ticks.vwap_20m - 1) >= 0.05)

@rules.check_each
async def known(tick):
    return "Unknown instrument" if tick.instrument_id.startswith("NO") else None

@rules.enrich("notional", unit="USD")
def notional(ticks):
    return ticks.price * ticks.volume
"""


@pytest.mark.parametrize("workers", [1, 0], ids=["rules in a worker", "rules in line"])
async def test_a_tick_is_judged_and_seen(stream, tmp_path, workers):
    (tmp_path / "desk.py").write_text(RULES)
    kept = tmp_path / "kept.jsonl"
    options = ["--source", stream.source, "--rules", "desk:rules", "--rule-workers", workers, "--sink", f"jsonl:{kept}"]
    with Served(tmp_path, *options) as served:
        async with (
            Follower(served.address, snapshot=False) as follower,
            Follower(served.address, status=["INVALID"]) as bad,
        ):
            await stream.publish(1, instrument="AAPL", price=100.0)
            await stream.publish(1, instrument="AAPL", price=106.0)
            await stream.publish(1, instrument="NOPE", price=10.0)
            await stream.publish(1, instrument="AAPL", price=20_000.0)
            await stream.publish(1, instrument="AAPL", price=-1.0)
            await stream.publish(1, instrument="AAPL", price=102.0)
            await follower.until(lambda: len(follower.trades) == 6, "six trades")
            await bad.until(lambda: len(bad.trades) == 4, "four rejects")
            got = [(t["status"], t.get("reason"), t.get("notional")) for _, t in sorted(follower.trades.items())]
            assert got == [
                ("VALID", None, 100.0),
                ("INVALID", "Too far from the 20-minute VWAP", None),
                ("INVALID", "Unknown instrument", None),
                ("INVALID", "Price out of acceptable range", None),
                ("INVALID", "Processing error: price: must be > 0, was -1.0", None),
                ("VALID", None, 612.0),
            ]
            assert follower.trades[6]["vwap20m"] == pytest.approx((100 * 1 + 102 * 6) / 7, rel=1e-12)
            assert sorted(bad.trades) == [2, 3, 4, 5]
        why = served.get("/api/trades/2/why")
        assert why["rule"] == "near_vwap"
        await until(lambda: len(kept.read_bytes().splitlines()) == 6, "six lines in the sink")
    assert [json.loads(line) for line in kept.read_text().splitlines()] == [follower.trades[s] for s in range(1, 7)]


async def test_metrics_of_the_processor_count_what_it_judged(stream, tmp_path):
    (tmp_path / "desk.py").write_text(RULES)
    with Served(tmp_path, "--source", stream.source, "--rules", "desk:rules") as served:
        await stream.publish(20, instrument="AAPL", price=100.0)
        await stream.publish(5, instrument="NOPE", price=10.0)
        await stream.publish(5, instrument="AAPL", price=20_000.0)

        def figures():
            with urllib.request.urlopen(f"http://{served.address}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

        def counted():
            shown = figures()
            trades = [shown.get(f'tickcast_trades_total{{status="{status}"}}', 0) for status in ("valid", "invalid")]
            return sum(trades) == 30

        await until(counted, "thirty trades in the metrics")
        shown = figures()
        assert shown["tickcast_ticks_total"] == 30
        assert shown['tickcast_trades_total{status="valid"}'] == 20
        assert shown['tickcast_trades_total{status="invalid"}'] == 10
        assert shown["tickcast_judging_seconds_count"] >= 1
        assert shown['tickcast_judging_seconds_bucket{le="+Inf"}'] == shown["tickcast_judging_seconds_count"]


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    """Stock protobuf classes, generated from the files of the contract."""
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_tools import protoc

    root, out = Path(__file__).parents[2] / "proto", tmp_path_factory.mktemp("proto") / "all.bin"
    names = [str(path.relative_to(root)) for path in root.rglob("*.proto")]
    assert protoc.main(["", f"-I{root}", f"--descriptor_set_out={out}", "--include_imports", *names]) == 0
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


async def test_every_payload_format_is_read(stream, messages, tmp_path):
    tick, batch = messages("marketdata.RawMarketTick"), messages("tickcast.v1.RawMarketTickBatch")
    made = [tick(instrument_id="AAPL", price=100.5, volume=n, timestamp_ns=1_700_000_000_000_000_000) for n in range(8)]
    as_json = [
        f'{{"instrumentId":"AAPL","price":100.5,"volume":"{n}","timestampNs":1700000000000000000}}' for n in range(8)
    ]
    with Served(tmp_path, "--source", stream.source) as served:
        async with Follower(served.address, snapshot=False) as follower:
            await stream.client.publish("ticks", made[1].SerializeToString())
            packed = batch(ticks=made[2:4]).SerializeToString()
            await stream.client.publish("ticks", packed, headers={"tickcast-format": "proto-batch"})
            await stream.client.publish("ticks", as_json[4].encode())
            await stream.client.publish("ticks", f"[{as_json[5]},{as_json[6]}]".encode())
            await stream.client.publish("ticks", f"{as_json[7]}\n".encode())
            await follower.until(lambda: len(follower.trades) == 7, "seven trades")
    assert follower.volumes() == list(range(1, 8))
    assert {t["status"] for t in follower.trades.values()} == {"VALID"}
    assert {t["vwap20m"] for t in follower.trades.values()} == {100.5}


async def test_an_undecodable_message_is_a_dead_letter_and_the_stream_goes_on(stream, tmp_path):
    with Served(tmp_path, "--source", stream.source) as served:
        async with Follower(served.address, snapshot=False) as follower:
            await stream.client.publish("ticks", b'{"instrumentId":"AAPL","price":"ten","volume":1}')
            await stream.publish(1)
            await follower.until(lambda: len(follower.trades) == 1, "the trade behind it")
            await until(lambda: served.board()["counters"]["undecodable"] == 1, "the count")
        letter = json.loads((served.run_dir / "dead-letters.jsonl").read_text())
        assert letter["offset"] == 1
        assert "price" in letter["error"]


async def test_a_clients_tick_is_answered_to_it_alone(stream, tmp_path):
    from websockets.asyncio.client import connect

    with Served(tmp_path, "--source", stream.source) as served:
        async with (
            Follower(served.address, snapshot=False) as other,
            connect(f"ws://{served.address}/ws/marketdata") as plain,
        ):

            def has_plain_client():
                return served.get("/api/status")["gateway"]["counters"]["plain_clients"] == 1

            await until(has_plain_client, "client that gets trades")
            await stream.publish(1, instrument="AAPL", price=100.0)
            assert json.loads(await plain.recv())["price"] == 100.0
            await plain.send('{"instrumentId":"AAPL","price":50.0,"volume":1}')
            answer = json.loads(await plain.recv())
            assert (answer["status"], answer["vwap20m"]) == ("VALID", 75.0)
            await plain.send("{nonsense")
            answer = json.loads(await plain.recv())
            assert answer["status"] == "INVALID"
            assert answer["reason"].startswith("Processing error: ")
            await stream.publish(1, instrument="AAPL", price=100.0)
            await other.until(lambda: len(other.trades) == 2, "two trades")
            # Neither of the client's ticks entered a window or the tape.
            assert other.trades[2]["vwap20m"] == 100.0


def without_id(line):
    trade = json.loads(line)
    del trade["tradeId"]
    return json.dumps(trade)


async def test_the_same_ticks_from_a_file_and_from_jetstream_give_the_same_trades(stream, tmp_path):
    recorded = RECORDED[-1] if len(RECORDED) == 1 else RECORDED[1]
    path = recorded.path(tmp_path)
    offline = run_tickcast(
        "replay", path, "--rules", "tickcast.examples.quantlib:fast", "--output", "-", env=recorded.env
    )
    assert offline.returncode == 0, offline.stderr
    expected = offline.stdout.decode().splitlines()
    opener = gzip.open if path.suffix == ".gz" else open
    kept = tmp_path / "kept.jsonl"
    options = ["--source", stream.source, "--rules", "tickcast.examples.quantlib:fast", "--sink", f"jsonl:{kept}"]
    with Served(tmp_path, *options, env=recorded.env), opener(path, "rt", newline="") as rows:
        pending = []
        for row in csv.DictReader(rows):
            tick = (
                f'{{"instrumentId":"{row["instrument_id"]}","price":{row["price"]},"volume":{row["volume"]},'
                f'"timestampNs":"{row["timestamp_ns"]}"}}'
            )
            pending.append(tick)
            if len(pending) == 500:
                await stream.js.publish("ticks", f"[{','.join(pending)}]".encode())
                pending.clear()
        await stream.js.publish("ticks", f"[{','.join(pending)}]".encode())
        await until(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= len(expected), "all trades", 90)
    found = await asyncio.to_thread(kept.read_text)
    assert len(found.splitlines()) == len(expected)
    for row, (a, b) in enumerate(zip(expected, found.splitlines(), strict=True)):
        assert a[a.index(",") :] == b[b.index(",") :], f"row {row}"
