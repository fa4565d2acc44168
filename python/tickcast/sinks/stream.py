"""An Arrow IPC stream in a file that is appended to, and goes on after a crash behind its last whole batch."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tickcast.errors import ConfigError

__all__ = ["ArrowFile", "Extent", "extent"]

_END_BYTES = 8
"""Bytes that end a stream; ours has none, so that it can be appended to. Readers take the file's end for it."""


class Extent(NamedTuple):
    """What of a file is whole."""

    schema: Any
    """Its columns; None: there are none yet."""
    size: int
    """Bytes up to the end of its last whole batch."""
    rows: int
    """Trades in it."""
    last: dict[str, int]
    """Last sequence of each epoch."""


def extent(path: Path) -> Extent:
    """Look through the file.

    Raises:
        ConfigError: It is no Arrow stream.
        OSError: It can't be read.
    """
    if not path.exists() or not path.stat().st_size:
        return Extent(None, 0, 0, {})
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError) as error:
            # Torn before its first batch: what we write begins with this.
            if source.size() >= 4 and source.read_at(4, 0) != b"\xff\xff\xff\xff":
                raise ConfigError(f"{path}: is no Arrow stream: {error}") from None
            return Extent(None, 0, 0, {})
        size, rows = source.tell(), 0
        last: dict[str, int] = {}
        while True:
            try:
                batch = reader.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return Extent(reader.schema, size, rows, last)
            if batch.num_rows and {"seq", "epoch"} <= set(batch.schema.names):
                last[batch["epoch"][-1].as_py()] = batch["seq"][-1].as_py()
            size, rows = source.tell(), rows + batch.num_rows


class ArrowFile:
    """Appends record batches; each is there as a whole or not at all."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open the file and cut off what a crash has torn.

        Raises:
            ConfigError: It holds something else, or other columns.
            OSError: It can't be written.
        """
        self.path = path
        self._schema = schema
        found = extent(path)
        if found.schema is not None and not found.schema.equals(schema):
            raise ConfigError(f"{path}: holds other columns ({', '.join(found.schema.names)}): name another file")
        self.rows = found.rows
        self.last = found.last
        self._file = path.open("ab", buffering=0)
        self._file.truncate(found.size)
        self._size = found.size

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch and bring it to the disk.

        Raises:
            OSError: It can't be written; the file is as before.
        """
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, self._schema) as writer:
            writer.write_batch(batch)
        begin = len(self._schema.serialize()) if self._size else 0
        data = memoryview(out.getvalue())[begin:-_END_BYTES]
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            os.fdatasync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)
        self.rows += batch.num_rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()
