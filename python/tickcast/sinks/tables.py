"""Trades of the tape as Arrow record batches: the columns of `arrow:` and `parquet:`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["LISTED", "STATUSES", "column_names", "record_batch", "schema"]

STATUSES = ("UNKNOWN", "VALID", "INVALID")
"""Names of the statuses by number."""

LISTED = "_listed"
"""Column of the journal alone: whether the tape's dictionary has the instrument, so that it gets a partition."""

_TIME = pa.timestamp("ns", "UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
_FIXED = (
    pa.field("seq", pa.uint64(), nullable=False),
    pa.field("epoch", _NAME, nullable=False),
    pa.field("trade_id", pa.string(), nullable=False),
    pa.field("instrument_id", _NAME, nullable=False),
    pa.field("price", pa.float64(), nullable=False),
    pa.field("volume", pa.int64(), nullable=False),
    pa.field("timestamp", _TIME, nullable=False),
    pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
    pa.field("reason", _NAME),
    pa.field("vwap_20m", pa.float64()),
    pa.field("ingest", _TIME, nullable=False),
)
# Also the names of the partitions: readers would take a column of that name for them.
_TAKEN = frozenset({*(field.name for field in _FIXED), "date", "instrument", LISTED})


def column_names(enrichments: Sequence[str]) -> list[str]:
    """Return the columns of enrichments: their names, but where such a column is there already."""
    return [f"enrichment_{name}" if name in _TAKEN else name for name in enrichments]


def schema(enrichments: Sequence[str], *, listed: bool = False) -> pa.Schema:
    """Return the columns of a tape with these enrichments; `listed`: with the journal's own."""
    further = [pa.field(name, pa.float64()) for name in column_names(enrichments)]
    return pa.schema([*_FIXED, *further, *([pa.field(LISTED, pa.bool_(), nullable=False)] if listed else [])])


def record_batch(columns: dict[str, Any], epoch: str, columns_schema: pa.Schema) -> pa.RecordBatch:
    """Return what `Hold.read_columns` gave as a record batch.

    Args:
        columns: At least one trade.
        epoch: Of the tape, 16 hex digits.
        columns_schema: Of `schema`.
    """
    rows = columns["rows"]
    first = columns["first"]
    instrument = np.frombuffer(columns["instrument"], np.int32)
    arrays = [
        pa.array(np.arange(first, first + rows, dtype=np.uint64)),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([epoch])),
        _trade_ids(columns["trade_id"], rows),
        pa.DictionaryArray.from_arrays(pa.array(instrument), pa.array(columns["instruments"], pa.string())),
        _numbers(columns["price"], pa.float64(), rows),
        _numbers(columns["volume"], pa.int64(), rows),
        _numbers(columns["timestamp_ns"], _TIME, rows),
        pa.DictionaryArray.from_arrays(_numbers(columns["status"], pa.int8(), rows), pa.array(STATUSES)),
        _reasons(columns),
        _floats(columns["vwap_20m"]),
        _numbers(columns["ingest_ns"], _TIME, rows),
        *(_floats(values) for values in columns["enrichments"]),
    ]
    if columns_schema.names[-1] == LISTED:
        arrays.append(pa.array(np.asarray(columns["listed"], bool)[instrument]))
    return pa.RecordBatch.from_arrays(arrays, schema=columns_schema)


def _numbers(values: bytes, kind: pa.DataType, rows: int) -> pa.Array:
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(values)])


def _floats(values: bytes) -> pa.Array:
    """Return floats in which NaN is null."""
    return pa.array(np.frombuffer(values, np.float64), from_pandas=True)


def _reasons(columns: dict[str, Any]) -> pa.Array:
    codes = np.frombuffer(columns["reason"], np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(np.maximum(codes, 0), mask=codes < 0), pa.array(columns["reasons"], pa.string())
    )


def _trade_ids(values: bytes, rows: int) -> pa.Array:
    """Return 16 bytes a row as 32 lower-case hex digits."""
    ends = np.arange(0, 32 * rows + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), rows, [None, pa.py_buffer(ends), pa.py_buffer(values.hex().encode("ascii"))]
    )
