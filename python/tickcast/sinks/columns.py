"""Sinks that write columns: `arrow:` and `parquet:`. Trades are gathered, and written a batch at a time."""

import time
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tickcast import urls
from tickcast._core import Hold
from tickcast.sinks.directory import ParquetDirectory
from tickcast.sinks.following import FollowingSink
from tickcast.sinks.stream import ArrowFile
from tickcast.sinks.tables import record_batch, schema

__all__ = ["ColumnSink", "arrow_sink", "parquet_sink"]

JOURNAL_NS = 10**9
MAX_TRADES = 65_536
TAPE_SHARE = 4
"""A batch is written once it holds this part of the tape's places: what is not confirmed holds the tape up."""


class _Store(Protocol):
    """What keeps batches."""

    def append(self, batch: pa.RecordBatch) -> None:
        """Keep a batch, as a whole, also over a crash."""

    def tidy(self, *, now: bool = False) -> None:
        """Do what is due from time to time; `now`: in any case."""

    def close(self) -> None:
        """Let go."""


class _Stream(ArrowFile):
    def tidy(self, *, now: bool = False) -> None:
        """Nothing to do."""


class ColumnSink(FollowingSink):
    """Follows the tape, gathers trades and hands them to a store; what the store has is confirmed.

    After a crash the store knows the last sequence that it has of this epoch, whatever was confirmed: nothing comes
    twice, and nothing is left out.
    """

    def __init__(self, hold: Hold, store: _Store, *, epoch: str, columns: pa.Schema, last: int, flush_ns: int) -> None:
        super().__init__(hold)
        self._store = store
        self._epoch, self._schema = epoch, columns
        self._flush_s = flush_ns / 1e9
        self._most = min(MAX_TRADES, max(1, hold.slots // TAPE_SHARE))
        self._last = last
        self._batches: list[pa.RecordBatch] = []
        self._since = 0.0
        hold.confirm(last)

    def _write_next(self, wait_s: float) -> bool:
        """Gather what has come and write what is due; False when the disk refused."""
        if self._batches:
            wait_s = min(wait_s, max(0.0, self._since + self._flush_s - time.monotonic()))
        self._read(wait_s)
        gathered = sum(batch.num_rows for batch in self._batches)
        due = self._is_ending or (bool(self._batches) and time.monotonic() - self._since >= self._flush_s)
        return not (due or gathered >= self._most or not self._batches) or self._flush()

    def _let_go(self) -> None:
        try:
            self._store.tidy(now=True)
        except OSError as error:
            self._state = f"cannot write: {error}"
        self._store.close()

    def _read(self, wait_s: float) -> None:
        """Gather trades, if there is room for more."""
        gathered = sum(batch.num_rows for batch in self._batches)
        if gathered >= self._most:
            return
        columns = self._hold.read_columns(self._last, self._most - gathered, wait_s)
        self._last = max(columns["last"], self._last)
        if columns["rows"]:
            self._since = self._since if self._batches else time.monotonic()
            self._batches.append(record_batch(columns, self._epoch, self._schema))

    def _flush(self) -> bool:
        try:
            # Together: each costs a wait for the disk, and whoever reads it again the handling of a batch.
            for batch in together(self._batches):
                self._store.append(batch)
            self._batches.clear()
            self._hold.confirm(self._last)
            self._store.tidy()
        except OSError as error:
            self._state = f"cannot write: {error}"
            return False
        self._state = "live"
        return True


def together(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return the rows of batches as one batch, or none."""
    if len(batches) < 2:
        return batches
    table: pa.Table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    joined: list[pa.RecordBatch] = table.to_batches()
    return joined


def arrow_sink(url: urls.Arrow, hold: Hold, epoch: str) -> ColumnSink:
    """Return a sink that appends to an Arrow IPC stream.

    Raises:
        ConfigError: The file holds something else, or other columns.
        OSError: It can't be written.
    """
    columns = schema(hold.enrichments)
    stream = _Stream(Path(url.path), columns)
    last = max(stream.last.get(epoch, 0), hold.confirmed)
    return ColumnSink(hold, stream, epoch=epoch, columns=columns, last=last, flush_ns=url.flush_ns)


def parquet_sink(url: urls.Parquet, hold: Hold, epoch: str) -> ColumnSink:
    """Return a sink that writes a directory of Parquet files.

    Raises:
        ConfigError: Another process writes the directory.
        OSError: It can't be written.
    """
    columns = schema(hold.enrichments, listed=True)
    directory = ParquetDirectory(Path(url.path), epoch, columns, flush_ns=url.flush_ns, rows=url.rows)
    last = max(directory.last, hold.confirmed)
    flush_ns = min(url.flush_ns, JOURNAL_NS)
    return ColumnSink(hold, directory, epoch=epoch, columns=columns, last=last, flush_ns=flush_ns)
