"""Parquet files and Arrow streams, ours and others', as chunks of CSV text for `tickcast.recordings`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from tickcast.errors import SourceError
from tickcast.sinks.directory import OWN, range_of, read_journal
from tickcast.sinks.stream import extent

__all__ = ["directory", "parquet", "stream"]

CHUNK_ROWS = 65_536

Chunks = tuple[Iterator[bytes], bool]
"""Text, and whether its times are nanoseconds already, because the file knew their unit."""


def parquet(paths: Sequence[Path], names: dict[str, str], instrument: str | None) -> Chunks:
    """Read Parquet files, one after the other.

    Raises:
        SourceError: A column is missing, or it is no Parquet file.
    """
    picked = _Picked(paths[0], _schema_of(paths[0]), names, instrument)
    return (text for path in paths for text in picked.texts(_batches(path, picked.wanted))), picked.timed


def stream(path: Path, names: dict[str, str], instrument: str | None) -> Chunks:
    """Read the whole batches of an Arrow IPC stream.

    Raises:
        SourceError: A column is missing.
    """
    found = extent(path)
    picked = _Picked(path, found.schema or pa.schema([]), names, instrument)

    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as source:
            yield from pa.ipc.open_stream(pa.BufferReader(source.read_buffer(found.size)))

    return picked.texts(batches()), picked.timed


def directory(path: Path, names: dict[str, str], instrument: str | None) -> Chunks:
    """Read a directory of Parquet files: what `parquet:` has written in the order of the tape, others by name.

    Raises:
        SourceError: There are no Parquet files, or a column is missing.
    """
    files = [file for file in sorted(path.rglob("*.parquet")) if not _hidden(file.relative_to(path))]
    journals = sorted((path / OWN).glob("*.journal"), key=lambda file: file.stat().st_mtime_ns)
    if not files and not journals:
        raise SourceError(f"{path}: has no Parquet files")
    if not journals and not all(range_of(file) for file in files):
        return parquet(files, names, instrument)
    first = _schema_of(files[0]) if files else read_journal(journals[0]).schema
    picked = _Picked(path, first, names, instrument)

    def batches() -> Iterator[pa.RecordBatch]:
        # A journal holds its range as a whole, also while the files of that range are being put in their places.
        tables = [table for table in map(read_journal, journals) if table.num_rows]
        whole = {(t["epoch"][0].as_py(), t["seq"][0].as_py(), t["seq"][-1].as_py()) for t in tables}
        for group in _ranges(file for file in files if range_of(file) not in whole):
            parts = [_plain(pq.ParquetFile(file).read(columns=[*picked.wanted, "seq"])) for file in group]
            yield from pa.concat_tables(parts).sort_by("seq").to_batches(CHUNK_ROWS)
        for table in tables:
            yield from table.to_batches(CHUNK_ROWS)

    return picked.texts(batches()), picked.timed


def _hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.parts)


def _ranges(files: Iterable[Path]) -> list[list[Path]]:
    """Return the files of each range together, in the order in which the tape had them."""
    groups: dict[tuple[str, int, int], list[Path]] = {}
    for file in files:
        found = range_of(file)
        if found is not None:
            groups.setdefault(found, []).append(file)
    began: dict[str, int] = {}
    for (epoch, _, _), group in groups.items():
        written = int((_schema_of(group[0]).metadata or {}).get(b"tickcast.written_ns", b"0"))
        began[epoch] = min(written, began.get(epoch, written))
    return [groups[key] for key in sorted(groups, key=lambda key: (began[key[0]], key[0], key[1]))]


def _schema_of(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: is no whole Parquet file: {error}") from None


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(CHUNK_ROWS, columns=columns)


def _plain(table: pa.Table) -> pa.Table:
    """Return the table with strings for what each file has codes of its own, and without what only that file says."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(field.type.value_type))
    return table.replace_schema_metadata(None)


class _Picked:
    """The four columns of a file."""

    def __init__(self, path: Path, schema: pa.Schema, names: dict[str, str], instrument: str | None) -> None:
        time = names.get("timestamp_ns", "timestamp_ns")
        if "timestamp_ns" not in names and time not in schema.names and "timestamp" in schema.names:
            time = "timestamp"
        self._instrument = instrument
        self._names = [names.get("instrument_id", "instrument_id"), names.get("price", "price")]
        self._names += [names.get("volume", "volume"), time]
        self.wanted = list(dict.fromkeys(self._names if instrument is None else self._names[1:]))
        missing = [name for name in self.wanted if name not in schema.names]
        if missing:
            raise SourceError(
                f"{path}: has no column {', '.join(missing)}, but {', '.join(schema.names) or 'none'}: "
                "say what is what with columns=instrument_id:…,price:…,volume:…,timestamp_ns:… (and instrument=…)"
            )
        kind = schema.field(time).type
        self.timed = pa.types.is_timestamp(kind)

    def texts(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Return batches as lines of CSV."""
        for batch in batches:
            if batch.num_rows:
                yield self._text(batch)

    def _text(self, batch: pa.RecordBatch) -> bytes:
        id_name, price, volume, time = self._names
        one = self._instrument
        ids = _strings(batch[id_name]) if one is None else pa.repeat(one, batch.num_rows)
        times = batch[time]
        if pa.types.is_timestamp(times.type):
            times = times.cast(pa.timestamp("ns", times.type.tz)).cast(pa.int64())
        table = pa.table([ids, batch[price], _decimals(batch[volume]), times], names=["i", "p", "v", "t"])
        quoted = pc.any(pc.match_substring_regex(ids, '[,"\r\n]')).as_py()
        options = pc_csv.WriteOptions(include_header=False, quoting_style="needed" if quoted else "none")
        out = pa.BufferOutputStream()
        pc_csv.write_csv(table, out, options)
        return bytes(out.getvalue())


def _decimals(volumes: pa.Array) -> pa.Array:
    """Return fractional doubles as the decimals that they stand for: of the digits that a double surely keeps."""
    if not pa.types.is_floating(volumes.type):
        return volumes
    digits = 15 if pa.types.is_float64(volumes.type) else 6
    values = volumes.to_pylist()
    if all(value is None or value.is_integer() for value in values):
        return volumes
    return pa.array([None if v is None else str(int(v)) if v.is_integer() else f"{v:.{digits}g}" for v in values])


def _strings(ids: pa.Array) -> pa.Array:
    """Return ids without line ends, which would make two rows of one."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    return pc.replace_substring_regex(ids.cast(pa.string()), "[\r\n]", "\ufffd")
