"""`parquet:` and `arrow:` behind a real `tickcast serve`, whose processor is killed again and again."""

import asyncio
import json
import os
import random
import signal

import pytest

from fixtures.recorded import COLUMNS, write_csv
from fixtures.serving import Served, until

pa = pytest.importorskip("pyarrow")

import pyarrow.dataset as ds  # noqa: E402 (pyarrow may be absent)

from tickcast._core import TapeReader  # noqa: E402

ROWS = 40_000
STEP_NS = 150_000
"""At its own pace the file takes six seconds."""

KILLS = {"processor": 3, "everything": 2}


def made(path):
    """Ticks that are told apart by their volume; some fail the screen, and some are above the price band."""
    rows = (
        (f"I{i % 40:03}" if i % 500 else "", 10 + i % 7 if i % 100 else 20_000, i + 1, 10**18 + i * STEP_NS)
        for i in range(ROWS)
    )
    return write_csv(path, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


@pytest.fixture
def folder(tmp_path):
    made(tmp_path / "ticks.csv")
    return tmp_path


def plain(trade):
    """A row of a table in the plain form of a trade."""
    return {
        "tradeId": trade["trade_id"],
        "instrumentId": trade["instrument_id"],
        "price": trade["price"],
        "volume": str(trade["volume"]),
        "timestampNs": str(trade["timestamp"]),
        "status": trade["status"],
        **({"reason": trade["reason"]} if trade["reason"] is not None else {}),
        **({"vwap20m": trade["vwap_20m"]} if trade["vwap_20m"] is not None else {}),
    }


def in_order(table):
    at = table.schema.get_field_index("timestamp")
    table = table.set_column(at, "timestamp", table["timestamp"].cast(pa.int64())).drop_columns(["ingest"])
    return sorted(table.to_pylist(), key=lambda trade: trade["seq"])


@pytest.mark.parametrize("victim", list(KILLS))
async def test_each_trade_once_through_kills(folder, victim):
    sinks = ["parquet:trades?flush=300ms&rows=2000", "arrow:trades.arrows?flush=50ms", "jsonl:trades.jsonl"]
    arguments = [part for sink in sinks for part in ("--sink", sink)]
    served = Served(folder, "--source", "replay:ticks.csv", *arguments)
    dice = random.Random(7)
    try:
        await asyncio.to_thread(served.start)
        info = served.run_dir / "processor.json"
        for kill in range(KILLS[victim]):
            # Well before the file's end, behind which a restart would begin anew.
            await until(lambda n=kill: head(served) > n * ROWS // 10, "trades before the kill")
            await asyncio.sleep(dice.uniform(0, 0.3))
            pid = served.processor_pid()
            if victim == "everything":
                served.kill_supervisor()
            os.kill(pid, signal.SIGKILL)
            if victim == "everything":
                await asyncio.to_thread(served.start)
            await until(lambda pid=pid: info.exists() and served.processor_pid() != pid, "a new processor")
        await until(lambda: state(served) == "ended", "the end of the file", 60)
    finally:
        served.stop()
    table = ds.dataset(folder / "trades", partitioning="hive").to_table()
    trades = in_order(table)
    assert [trade["seq"] for trade in trades] == list(range(1, ROWS + 1))
    assert [trade["volume"] for trade in trades] == list(range(1, ROWS + 1))
    assert len({trade["epoch"] for trade in trades}) == 1
    lines = [json.loads(line) for line in (folder / "trades.jsonl").read_text().splitlines()]
    assert [plain(trade) for trade in trades] == lines
    assert all(trade["instrument"] == (trade["instrument_id"] or None) for trade in trades)
    with pa.memory_map(str(folder / "trades.arrows")) as source:
        stream = pa.ipc.open_stream(source).read_all()
    assert stream["seq"].to_pylist() == list(range(1, ROWS + 1))
    assert [plain(trade) for trade in in_order(stream)] == lines


async def test_an_orderly_end_writes_what_was_gathered_though_it_is_not_due(tmp_path):
    sinks = ["parquet:trades?flush=1h", "arrow:trades.arrows?flush=1h", "jsonl:trades.jsonl"]
    arguments = [part for sink in sinks for part in ("--sink", sink)]
    served = Served(tmp_path, "--source", "sim://?rate=2000", *arguments)
    try:
        await asyncio.to_thread(served.start)
        await until(lambda: head(served) > 1000, "trades")
    finally:
        served.stop()
    everything = list(range(1, head(served) + 1))
    table = ds.dataset(tmp_path / "trades", partitioning="hive").to_table()
    assert sorted(table["seq"].to_pylist()) == everything
    with pa.memory_map(str(tmp_path / "trades.arrows")) as source:
        batches = list(pa.ipc.open_stream(source))
    assert pa.Table.from_batches(batches)["seq"].to_pylist() == everything
    assert len(batches) < 5, "what one flush writes is one batch"
    assert len((tmp_path / "trades.jsonl").read_text().splitlines()) == len(everything)


def head(served):
    return TapeReader.open(served.run_dir).head if (served.run_dir / "tape").exists() else 0


def state(served):
    status = served.try_get("/api/status")
    return status["board"]["source"]["state"] if status else None
