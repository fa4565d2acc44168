"""The Parquet directory and the Arrow file: whatever moment a crash comes at, each trade is there once."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

import pyarrow.dataset as ds  # noqa: E402 (pyarrow may be absent)
import pyarrow.parquet as pq  # noqa: E402

from tickcast.errors import ConfigError  # noqa: E402
from tickcast.sinks.directory import DAY_NS, DEFAULT_PARTITION, OWN, ParquetDirectory  # noqa: E402
from tickcast.sinks.stream import ArrowFile, extent  # noqa: E402
from tickcast.sinks.tables import record_batch, schema  # noqa: E402

EPOCH = "00000000000000ab"
COLUMNS = schema(["notional", "price"], listed=True)
INSTRUMENTS = ["AAA", "EUR/USD", "B?=%", ""]


def columns(first, rows):
    """Trades as the tape gives them, over two days, of four instruments, of which one failed the screen."""
    seq = np.arange(first, first + rows)
    reason = np.where(seq % 3, -1, 0).astype(np.int32)
    return {
        "first": first,
        "last": first + rows - 1,
        "rows": rows,
        "trade_id": b"".join(int(s).to_bytes(16) for s in seq),
        "instrument": (seq % 4).astype(np.int32).tobytes(),
        "instruments": INSTRUMENTS,
        "listed": [True, True, True, False],
        "price": (seq / 2).astype(float).tobytes(),
        "volume": seq.astype(np.int64).tobytes(),
        "timestamp_ns": ((seq % 2) * DAY_NS + seq).astype(np.int64).tobytes(),
        "ingest_ns": seq.astype(np.int64).tobytes(),
        "status": np.where(reason < 0, 1, 2).astype(np.uint8).tobytes(),
        "reason": reason.tobytes(),
        "reasons": ["Price out of acceptable range"],
        "vwap_20m": np.where(seq % 5, seq / 4, np.nan).tobytes(),
        "enrichments": [np.where(seq % 7, seq * 2.0, np.nan).tobytes(), seq.astype(float).tobytes()],
    }


def batch(first, rows, of=COLUMNS):
    return record_batch(columns(first, rows), EPOCH, of)


def sequences(path):
    if not any(path.glob("date=*/*/*.parquet")):
        return []
    return ds.dataset(path, partitioning="hive").to_table(columns=["seq"])["seq"].to_pylist()


def open_directory(path, **options):
    return ParquetDirectory(path, EPOCH, COLUMNS, **{"flush_ns": 3600 * 10**9, "rows": 30, **options})


class Crash(BaseException):
    """Stands for kill -9: nothing is tidied up."""


class Crashing:
    """Crashes before the n-th step that changes the disk."""

    def __init__(self, patch, steps):
        self.left = steps
        for owner, name in [
            (os, "fsync"),
            (os, "fdatasync"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (shutil, "rmtree"),
        ]:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, call):
        def counted(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise Crash
            return call(*args, **kwargs)

        return counted


def write_all(directory, total):
    """Write what is missing of `total` trades, in batches of 15."""
    first = directory.last + 1
    while first <= total:
        rows = min(15, total - first + 1)
        directory.append(batch(first, rows))
        directory.tidy()
        first += rows
    directory.tidy(now=True)


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_crash_at_any_step_neither_loses_nor_doubles(tmp_path, monkeypatch, crashes):
    total, step, done = 45, 0, False
    while not done:
        path = tmp_path / f"{step}"
        done = True
        for _ in range(crashes):
            directory = None
            with monkeypatch.context() as patch:
                Crashing(patch, step)
                try:
                    directory = open_directory(path)
                    write_all(directory, total)
                except Crash:
                    done = False
            if directory is not None:
                directory._lock.release()
            seen = sequences(path)
            assert len(seen) == len(set(seen)), f"a reader saw a trade twice after step {step}"
        directory = open_directory(path)
        write_all(directory, total)
        directory.close()
        assert sorted(sequences(path)) == list(range(1, total + 1)), f"after a crash at step {step}"
        assert not list((path / OWN).glob("*.journal"))
        assert not (path / OWN / "staging").exists()
        step += 1 if crashes == 1 else 5
    assert step > 40


def test_rows_are_what_the_tape_had(tmp_path):
    directory = open_directory(tmp_path)
    write_all(directory, 200)
    directory.close()
    table = ds.dataset(tmp_path, partitioning="hive").to_table().sort_by("seq")
    assert table["trade_id"].to_pylist() == [f"{seq:032x}" for seq in range(1, 201)]
    assert table["instrument_id"].to_pylist() == [INSTRUMENTS[seq % 4] for seq in range(1, 201)]
    assert table["instrument"].to_pylist() == [INSTRUMENTS[seq % 4] or None for seq in range(1, 201)]
    assert table["date"].to_pylist() == [f"1970-01-0{1 + seq % 2}" for seq in range(1, 201)]
    assert table["reason"].to_pylist() == [
        None if seq % 3 else "Price out of acceptable range" for seq in range(1, 201)
    ]
    assert table["status"].to_pylist() == ["VALID" if seq % 3 else "INVALID" for seq in range(1, 201)]
    assert table["vwap_20m"].to_pylist() == [seq / 4 if seq % 5 else None for seq in range(1, 201)]
    assert table["notional"].to_pylist() == [seq * 2.0 if seq % 7 else None for seq in range(1, 201)]
    assert table["price"].to_pylist() == [seq / 2 for seq in range(1, 201)]
    assert table["enrichment_price"].to_pylist() == [float(seq) for seq in range(1, 201)]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [seq % 2 * DAY_NS + seq for seq in range(1, 201)]
    assert set(table["epoch"].to_pylist()) == {EPOCH}


def test_files_say_their_range_and_hold_their_instrument_alone(tmp_path):
    directory = open_directory(tmp_path, rows=1000)
    write_all(directory, 100)
    directory.close()
    files = sorted(tmp_path.glob("date=*/instrument=*/*.parquet"))
    assert {file.parent.name for file in files} >= {"instrument=EUR%2FUSD", f"instrument={DEFAULT_PARTITION}"}
    for file in files:
        metadata = pq.read_schema(file).metadata
        assert (metadata[b"tickcast.epoch"], metadata[b"tickcast.first_seq"]) == (EPOCH.encode(), b"1")
        assert metadata[b"tickcast.last_seq"] == b"100"
        dictionary = pq.read_table(file)["instrument_id"].combine_chunks().dictionary
        assert len(dictionary) == 1


def test_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tickcast.sinks.directory.LOCK_PATIENCE_S", 0.0)
    directory = open_directory(tmp_path)
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        open_directory(tmp_path)
    directory.close()
    open_directory(tmp_path).close()


def test_a_torn_stream_goes_on_behind_its_last_whole_batch(tmp_path):
    path, columns_schema = tmp_path / "t.arrows", schema(["notional", "price"])
    file = ArrowFile(path, columns_schema)
    ends = [0]
    for first in (1, 11, 21):
        file.append(batch(first, 10, columns_schema))
        ends.append(path.stat().st_size)
    file.close()
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 97), len(whole)]:
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends[1:])
        file = ArrowFile(path, columns_schema)
        assert file.rows == 10 * kept
        assert file.last.get(EPOCH, 0) == 10 * kept
        file.append(batch(10 * kept + 1, 5, columns_schema))
        file.close()
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
        assert table["seq"].to_pylist() == list(range(1, 10 * kept + 6))
        assert table["instrument_id"].to_pylist() == [INSTRUMENTS[seq % 4] for seq in range(1, 10 * kept + 6)]


def test_other_files_and_columns_are_refused(tmp_path):
    path = tmp_path / "t.arrows"
    file = ArrowFile(path, schema(["notional"]))
    file.append(record_batch(columns(1, 1) | {"enrichments": [bytes(8)]}, EPOCH, schema(["notional"])))
    file.close()
    with pytest.raises(ConfigError, match="other columns"):
        ArrowFile(path, schema([]))
    path.write_text("instrument_id,price\n")
    with pytest.raises(ConfigError, match="no Arrow stream"):
        extent(path)
    assert path.read_text() == "instrument_id,price\n"
