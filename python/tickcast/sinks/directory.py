"""A directory of Parquet files, partitioned by date and instrument, that any number of crashes leaves whole.

::

    DIR/date=2024-08-08/instrument=BTCUSDT/<epoch>-<first>-<last>.parquet    what readers see
    DIR/_tickcast/<epoch>-<first>.journal    trades that are not in such files yet: an Arrow stream
    DIR/_tickcast/staging/                   files that are being written
    DIR/_tickcast/<epoch>.commit             the newest range that was written, and its files

Trades go into the journal first, within a second or so: it keeps them over a crash, so that the tape may go on.
Hundreds of instruments in files of a few seconds each would be too many files; hence partition files are written from
the journal at a slower pace. All of a range are written into `staging`, then the commit names them (that is the moment
from which they count), then they are moved into their places, then their journal goes. Whatever a crash leaves behind
is completed from the commit, or thrown away where there is none: readers never see a trade twice. Names that begin with
`_` are no data to pyarrow and Spark.
"""

import datetime
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tickcast.errors import ConfigError
from tickcast.rundir import Lock
from tickcast.sinks.stream import ArrowFile, extent
from tickcast.sinks.tables import LISTED

__all__ = ["DEFAULT_PARTITION", "OWN", "ParquetDirectory", "range_of", "read_journal"]

OWN = "_tickcast"
"""Folder of what is no data to readers."""

DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""Hive's name for the partition of what has no such value: here, instruments that failed the screen."""

DAY_NS = 86_400 * 10**9
LOCK_PATIENCE_S = 5.0


class _Commit(msgspec.Struct):
    """The newest range of an epoch that is in partition files."""

    epoch: str
    first: int
    last: int
    files: list[str]
    """Relative to the directory."""


def range_of(path: Path) -> tuple[str, int, int] | None:
    """Return epoch, first and last sequence that a file of ours has in its name; None for those of others."""
    match = re.fullmatch(r"([0-9a-f]{16})-(\d+)-(\d+)\.parquet", path.name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def read_journal(path: Path) -> pa.Table:
    """Return the whole batches of a journal, in order.

    Raises:
        ConfigError: It is no Arrow stream.
        OSError: It can't be read.
    """
    found = extent(path)
    if found.schema is None:
        return pa.table({})
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(pa.BufferReader(source.read_buffer(found.size))).read_all().unify_dictionaries()


class ParquetDirectory:
    """Keeps record batches of one epoch, and writes them out as partition files from time to time."""

    def __init__(self, path: Path, epoch: str, columns: pa.Schema, *, flush_ns: int, rows: int) -> None:
        """Take the directory up, and complete what a crash has left.

        Raises:
            ConfigError: Another process writes it.
            OSError: It can't be written.
        """
        self._path, self._epoch, self._schema = path, epoch, columns
        self._flush_s, self._rows = flush_ns / 1e9, rows
        self._own = path / OWN
        self._staging = self._own / "staging"
        self._own.mkdir(parents=True, exist_ok=True)
        lock = Lock.acquire(self._own / "lock", patience_s=LOCK_PATIENCE_S)
        if lock is None:
            holder = Lock.holder(self._own / "lock")
            raise ConfigError(f"sinks: parquet:{path} is being written by process {holder}; name another directory")
        self._lock = lock
        self._journal: ArrowFile | None = None
        self._since = 0.0
        self._full: list[Path] = []
        try:
            self.last = self._recover()
        except BaseException:
            lock.release()
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Keep a batch.

        Raises:
            OSError: It can't be written.
        """
        if self._journal is None:
            first = batch["seq"][0].as_py()
            self._journal = ArrowFile(self._own / f"{self._epoch}-{first}.journal", self._schema)
            self._since = time.monotonic()
        self._journal.append(batch)

    def tidy(self, *, now: bool = False) -> None:
        """Write partition files, if there are enough trades for them or it is time; `now`: in any case.

        Raises:
            OSError: They can't be written; the journal has the trades.
        """
        journal = self._journal
        if journal and (now or journal.rows >= self._rows or time.monotonic() - self._since >= self._flush_s):
            # Nothing is added to what is being written out, also where that fails halfway and is tried again.
            journal.close()
            self._full.append(journal.path)
            self._journal = None
        while self._full:
            self._write_out(self._full[0])
            del self._full[0]

    def close(self) -> None:
        """Let go of the directory."""
        if self._journal is not None:
            self._journal.close()
        self._lock.release()

    def _recover(self) -> int:
        """Complete what was committed, throw away what was not, write journals out; return the last sequence."""
        last = 0
        for path in self._own.glob("*.commit"):
            commit = msgspec.json.decode(path.read_bytes(), type=_Commit)
            self._place(commit)
            if commit.epoch == self._epoch:
                last = commit.last
        shutil.rmtree(self._staging, ignore_errors=True)
        for path in sorted(self._own.glob("*.journal"), key=lambda path: path.stat().st_mtime_ns):
            last = max(last, extent(path).last.get(self._epoch, 0))
            self._write_out(path)
        return last

    def _write_out(self, journal: Path) -> None:
        """Bring a journal's trades into partition files, all of them or none, and remove it."""
        table = read_journal(journal)
        if table.num_rows:
            epoch, first, last = table["epoch"][0].as_py(), table["seq"][0].as_py(), table["seq"][-1].as_py()
            commit = self._commit_of(epoch)
            if commit is None or commit.last < first:
                commit = self._stage(table, epoch, first, last)
            self._place(commit)
        journal.unlink()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _commit_of(self, epoch: str) -> _Commit | None:
        try:
            return msgspec.json.decode((self._own / f"{epoch}.commit").read_bytes(), type=_Commit)
        except FileNotFoundError:
            return None

    def _stage(self, table: pa.Table, epoch: str, first: int, last: int) -> _Commit:
        """Write the files of a range where nobody looks, and commit them."""
        shutil.rmtree(self._staging, ignore_errors=True)
        commit = _Commit(epoch, first, last, [])
        for folder, part in _partitions(table):
            name = f"{folder}/{epoch}-{first}-{last}.parquet"
            (self._staging / folder).mkdir(parents=True, exist_ok=True)
            _write_parquet(self._staging / name, part, commit)
            commit.files.append(name)
        target = self._own / f"{epoch}.commit"
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(commit))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(self._own)
        return commit

    def _place(self, commit: _Commit) -> None:
        """Move the files of a commit to where they belong, as far as they are not there."""
        for name in commit.files:
            staged, placed = self._staging / name, self._path / name
            if staged.exists():
                placed.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(placed)
                _sync_folder(placed.parent)


def _partitions(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Part a table; each part keeps its order. Yields folder and part."""
    days = pc.cast(table["timestamp"], pa.int64()).to_numpy() // DAY_NS
    instruments = table["instrument_id"].combine_chunks()
    codes = np.where(table[LISTED].to_numpy(), instruments.indices.to_numpy(), -1)
    names = instruments.dictionary
    table = table.drop_columns([LISTED])
    keys, part_of = np.unique(np.stack([days, codes]), axis=1, return_inverse=True)
    part_of = part_of.reshape(-1)
    table = table.take(pa.array(np.argsort(part_of, kind="stable")))
    begin = 0
    for (day, code), rows in zip(keys.T.tolist(), np.bincount(part_of).tolist(), strict=True):
        date = _date(day)
        instrument = DEFAULT_PARTITION if code < 0 else quote(names[code].as_py(), safe="")
        yield f"date={date}/instrument={instrument}", table.slice(begin, rows)
        begin += rows


def _date(day: int) -> str:
    if day < 0:
        return DEFAULT_PARTITION
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def _write_parquet(path: Path, part: pa.Table, commit: _Commit) -> None:
    """Write a file, and bring it to the disk."""
    for at, field in enumerate(part.schema):
        if pa.types.is_dictionary(field.type):  # with its own values only
            plain = part.column(at).cast(pa.string()).combine_chunks()
            part = part.set_column(
                at, field.with_type(pa.dictionary(pa.int32(), pa.string())), plain.dictionary_encode()
            )
    metadata = {
        "tickcast.epoch": commit.epoch,
        "tickcast.first_seq": str(commit.first),
        "tickcast.last_seq": str(commit.last),
        "tickcast.written_ns": str(time.time_ns()),
    }
    with path.open("wb") as file:
        pq.write_table(part.replace_schema_metadata(metadata), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
