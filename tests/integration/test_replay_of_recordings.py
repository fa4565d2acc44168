"""`tickcast replay` of everything that people have recorded: Parquet, ours and others', Arrow, DBN, other CSV."""

import asyncio
import gzip
import json
import shutil
from decimal import Decimal

import pytest

from fixtures.recorded import SHARED, made_rows, write_csv
from fixtures.serving import Served, run_tickcast, until

pa = pytest.importorskip("pyarrow")

import pyarrow.parquet as pq  # noqa: E402 (pyarrow may be absent)

from tickcast._core import TapeReader  # noqa: E402
from tickcast.recordings import file_stream  # noqa: E402

RAW = SHARED / "raw"
OPENED = {"TICKCAST_SCREEN_ID_MAX": "11", "TICKCAST_SCREEN_PRICE_MAX": "1000000"}
needs_raw = pytest.mark.skipif(not RAW.is_dir(), reason="no recordings of vendors here")


def replay(path, *arguments, env=None):
    done = run_tickcast("replay", path, "--output", "-", *arguments, env=env)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_ids(trades):
    return [{name: value for name, value in trade.items() if name != "tradeId"} for trade in trades]


def assert_rows_number_the_trades(trades, path):
    assert [t["tradeId"] for t in trades] == [f"{file_stream(path):08x}0000{n:016x}0000" for n in range(len(trades))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Ticks, and what `parquet:`, `arrow:` and `jsonl:` have made of them."""
    folder = tmp_path_factory.mktemp("recorded")
    ticks = write_csv(folder / "ticks.csv", made_rows(5000, seed=5, instruments=("AAA", "B,B", 'C"C', "EUR/USD", "D")))
    sinks = ["parquet:trades?rows=900&flush=100ms", "arrow:trades.arrows", "jsonl:trades.jsonl"]
    served = Served(folder, "--source", "replay:ticks.csv?pace=max", *[a for s in sinks for a in ("--sink", s)])
    try:
        served.start()
        limit = lambda: TapeReader.open(served.run_dir).head == 5000  # noqa: E731
        asyncio.run(until(limit, "all trades"))
    finally:
        served.stop()
    return folder, ticks


@pytest.mark.parametrize("name", ["trades", "trades.arrows"])
def test_what_our_sinks_wrote_is_judged_as_the_first_time(recorded, name):
    folder, ticks = recorded
    again = replay(folder / name)
    assert without_ids(again) == without_ids(replay(ticks))
    assert_rows_number_the_trades(again, folder / name)


def test_a_directory_is_played_to_clients_too(recorded, tmp_path):
    folder, _ = recorded
    with Served(tmp_path, "--source", f"replay:{folder / 'trades'}?pace=max", "--grpc-port", "0") as served:
        asyncio.run(until(lambda: TapeReader.open(served.run_dir).head == 5000, "all trades"))
        played = served.get("/api/trades?from_seq=1&limit=100")["trades"]
    assert_rows_number_the_trades(played, folder / "trades")


def test_a_recording_that_was_killed_is_whole_with_its_journal(recorded, tmp_path):
    from tickcast.sinks.directory import read_journal
    from tickcast.sinks.stream import ArrowFile
    from tickcast.sinks.tables import LISTED

    folder, ticks = recorded
    path = shutil.copytree(folder / "trades", tmp_path / "trades")
    newest = max(path.glob("date=*/*/*.parquet"), key=lambda file: int(file.stem.split("-")[1]))
    name = newest.stem
    files = list(path.glob(f"date=*/*/{name}.parquet"))
    epoch, first, _ = name.split("-")
    table = pa.concat_tables(
        [
            t.set_column(3, t.field(3).with_type(pa.string()), t.column(3).cast(pa.string()))
            for t in map(pq.read_table, files)
        ],
        promote_options="permissive",
    ).sort_by("seq")
    table = table.replace_schema_metadata(None).append_column(LISTED, pa.array([True] * table.num_rows))
    batch = table.combine_chunks().to_batches()[0]
    journal = ArrowFile(path / "_tickcast" / f"{epoch}-{first}.journal", batch.schema)
    journal.append(batch)
    journal.close()
    assert read_journal(journal.path).num_rows == table.num_rows
    # As a crash leaves it: committed, and only some of the files in their places.
    files[0].unlink()
    assert without_ids(replay(path)) == without_ids(replay(ticks))


@pytest.mark.parametrize("volume", ["double", "decimal", "string"])
def test_parquet_of_others_is_read_exactly(tmp_path, volume):
    sizes = ["0.00000001", "12.5", "0.1", "92233720368", "0.000311"]
    kind = {"double": pa.float64(), "decimal": pa.decimal128(28, 8), "string": pa.string()}[volume]
    values = [{"double": float, "decimal": Decimal, "string": str}[volume](size) for size in sizes]
    if volume == "double":
        values[4] = 0.00031099999999999997  # as real files have it
    path = tmp_path / "trades.parquet"
    stamps = pa.array([1_700_000_000_123 + n for n in range(5)], pa.timestamp("ms", "UTC"))
    pq.write_table(
        pa.table(
            {
                "sym": ["AAA", "BBB"] * 2 + [None],
                "px": [1.5, 0.1, 1e-2, 123.456, 7.0],
                "qty": pa.array(values, kind),
                "at": stamps,
            }
        ),
        path,
    )
    columns = "instrument_id:sym,price:px,volume:qty,timestamp_ns:at"
    trades = replay(path, "--columns", columns, "--volume-scale", "100000000")
    assert [int(t["volume"]) for t in trades] == [int(Decimal(size) * 10**8) for size in sizes]
    assert [int(t["timestampNs"]) for t in trades] == [(1_700_000_000_123 + n) * 10**6 for n in range(5)]
    assert [t["price"] for t in trades] == [1.5, 0.1, 1e-2, 123.456, 7.0]
    assert [t["status"] for t in trades] == ["VALID"] * 4 + ["INVALID"]
    assert_rows_number_the_trades(trades, path)


def test_rows_of_parquet_that_lack_something_are_dead_letters(tmp_path):
    path, letters = tmp_path / "t.parquet", tmp_path / "letters.jsonl"
    pq.write_table(
        pa.table(
            {"instrument_id": ["AAA"] * 3, "price": [1.0, None, 2.0], "volume": [1, 1, None], "timestamp_ns": [1, 2, 3]}
        ),
        path,
    )
    assert len(replay(path, "--dead-letters", letters)) == 1
    assert [json.loads(line)["offset"] for line in letters.read_text().splitlines()] == [1, 2]


def test_other_csv_by_its_columns(tmp_path):
    path = tmp_path / "trades.csv.gz"
    path.write_bytes(gzip.compress(b"when,px,n\n1700000000.5,1.25,0.2\n1700000001,2.5,3\n"))
    columns = "price:px,volume:n,timestamp_ns:when"
    trades = replay(path, "--columns", columns, "--unit", "s", "--instrument", "EUR/USD", "--volume-scale", "10")
    assert [(t["instrumentId"], t["price"], t["volume"], t["timestampNs"]) for t in trades] == [
        ("EUR/USD", 1.25, "2", "1700000000500000000"),
        ("EUR/USD", 2.5, "30", "1700000001000000000"),
    ]
    assert_rows_number_the_trades(trades, path)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("a.parquet", (), "no column price"),
        ("a.parquet", ("--columns", "cost:b"), "--columns"),
        ("torn.parquet", (), "no whole Parquet file"),
        ("empty", (), "no Parquet files"),
        ("old.dbz", (), "DBZ"),
        ("a.csv", ("--columns", "volume:amount"), "amount"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path, name, arguments, says):
    pq.write_table(pa.table({"instrument_id": ["A"], "b": [1]}), tmp_path / "a.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.dbz").write_bytes(b"\x51\x2a\x4d\x18" + bytes(20))
    (tmp_path / "a.csv").write_text("instrument_id,price,volume,timestamp_ns\n")
    done = run_tickcast("replay", tmp_path / name, "--output", "-", *arguments)
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.decode().splitlines() if "judged by the built-in screen" not in line]
    assert len(lines) == 1, lines
    assert says in lines[0]


@pytest.mark.data
@needs_raw
@pytest.mark.parametrize("name", ["test_data.trades.dbn", *(f"test_data.trades.v{n}.dbn.zst" for n in (1, 2, 3))])
def test_every_version_of_dbn_gives_the_same_trades(name):
    pytest.importorskip("databento_dbn")
    trades = replay(RAW / name)
    assert [(t["instrumentId"], t["price"], t["volume"], t["timestampNs"]) for t in trades] == [
        ("ESH1", 3720.25, "5", "1609160400098821953"),
        ("ESH1", 3720.25, "21", "1609160400107665963"),
    ]
    assert_rows_number_the_trades(trades, RAW / name)


@pytest.mark.data
@needs_raw
@pytest.mark.parametrize(
    ("name", "arguments", "count", "first"),
    [
        ("futures_trades_20240701.v1.dbn.zst", (), 120, ("ESU4", 5528.75, "2", "1719878281218218853")),
        (
            "tardis_bitmex_trades_XBTUSD.csv",
            ("--columns", "tardis"),
            10,
            ("XBTUSD", 8531.5, "2152", "1583020803145000000"),
        ),
        (
            "ccxt_trades_20230202.csv",
            ("--columns", "ccxt", "--instrument", "ETHUSDT", "--volume-scale", "1000"),
            1000,
            ("ETHUSDT", 1666.8, "26062", "1675329600138000000"),
        ),
        (
            "binance_btcusdt_trades_20210108.parquet",
            ("--columns", "volume:quantity", "--instrument", "BTCUSDT", "--volume-scale", "100000000"),
            2001,
            ("BTCUSDT", 39432.48, "26300", "1610064000278000000"),
        ),
    ],
)
def test_files_as_vendors_ship_them(name, arguments, count, first):
    trades = replay(RAW / name, *arguments, env=OPENED)
    assert len(trades) == count
    assert tuple(trades[0][key] for key in ("instrumentId", "price", "volume", "timestampNs")) == first
    assert all(t["status"] == "VALID" for t in trades)
    assert_rows_number_the_trades(trades, RAW / name)
