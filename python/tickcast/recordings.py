"""Recorded files of every kind, opened as one: CSV, Parquet (ours and others'), Arrow streams, Databento DBN.

CSV is read by the native part. The other kinds are turned into the same text, a chunk at a time: every number goes
through the one exact decimal parser, whatever it was kept as, and a row that can't be read becomes a dead letter like
any other.
"""

import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tickcast import urls
from tickcast._core import Replay
from tickcast.errors import ConfigError, SourceError

__all__ = ["file_stream", "open_recording"]

HEADER = b"instrument_id,price,volume,timestamp_ns\n"
UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}

PARQUET, ARROW_STREAM, ZSTD = b"PAR1", b"\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd"
DBZ = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of the frame that files of DBN's predecessor begin with."""


def file_stream(path: Path) -> int:
    """Return the stream number of a recorded file: the first 8 hex digits of SHA-256 of ``file:<base name>``."""
    return int.from_bytes(hashlib.sha256(f"file:{path.name}".encode()).digest()[:4])


def open_recording(url: urls.Replay, volume_scale: int, scales: dict[str, int]) -> Replay:
    """Open a recorded file, or a directory of Parquet files.

    Args:
        url: Path, and what its columns mean.
        volume_scale: Volumes are multiplied by this power of ten.
        scales: Scales of single instruments.

    Raises:
        OSError: It can't be read.
        SourceError: It is not of a kind that can be read, or lacks a column.
        ConfigError: An optional part is not installed.
    """
    path = Path(url.path)
    unit_ns, names = UNITS_NS[url.unit], {ours: theirs for ours, theirs in url.columns.items() if ours != theirs}
    chunks: Iterator[bytes] | None = None
    with_timestamps = False
    if path.is_dir():
        chunks, with_timestamps = _optional("arrow", "parquet").directory(path, names, url.instrument)
    else:
        with path.open("rb") as file:
            head = file.read(4)
        if head == PARQUET:
            chunks, with_timestamps = _optional("arrow", "parquet").parquet([path], names, url.instrument)
        elif head == ARROW_STREAM:
            chunks, with_timestamps = _optional("arrow", "arrow").stream(path, names, url.instrument)
        elif head == ZSTD or head.startswith(b"DBN"):
            chunks = _optional("dbn", "dbn").trades(path, zstd=head == ZSTD, instrument=url.instrument)
            with_timestamps = True
        elif head[1:] == DBZ:
            raise SourceError(f"{path}: is DBZ, the predecessor of DBN: convert it with `dbn --dbn` of dbn-cli")
    if chunks is None:
        return Replay(
            path,
            stream=file_stream(path),
            volume_scale=volume_scale,
            volume_scales=scales,
            columns=names,
            instrument=url.instrument,
            unit_ns=unit_ns,
        )
    return Replay(
        path,
        stream=file_stream(path),
        volume_scale=volume_scale,
        volume_scales=scales,
        unit_ns=1 if with_timestamps else unit_ns,
        input=_Text(chunks),
    )


def _optional(module: str, extra: str) -> Any:  # noqa: ANN401 (a module)
    try:
        return import_module(f"tickcast.sources.recorded_{module}")
    except ImportError as error:
        extra = f"pip install 'tickcast[{extra}]' ({error})"
        raise ConfigError(f"source: replay: of such a file needs an optional part: {extra}") from None


class _Text:
    """Chunks of text as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(HEADER)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; empty at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)
