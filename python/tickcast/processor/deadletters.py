"""Dead letters: what could not be decoded, kept with its bytes, its position and why."""

import base64
import os
import time
from pathlib import Path
from types import TracebackType

import msgspec

from tickcast._core import Batch

__all__ = ["DeadLetters"]


class DeadLetter(msgspec.Struct, rename="camel"):
    """One line of the file."""

    stream: str
    partition: int
    offset: int
    index: int
    error: str
    payload: str
    """The original bytes, base64."""
    at_ns: int


class DeadLetters:
    """Appends to a JSON-lines file; on disk before the position behind them is committed."""

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        """Open the file.

        Raises:
            OSError: It can't be opened for writing.
        """
        self._file = path.open("wb" if truncate else "ab")
        self._encoder = msgspec.json.Encoder()

    def write(self, batch: Batch) -> int:
        """Write what of the batch could not be decoded; return how many entries that were.

        Raises:
            OSError: The disk refuses.
        """
        letters = batch.undecodable
        for (stream, partition, offset, index), payload, error in letters:
            letter = DeadLetter(
                f"{stream:08x}", partition, offset, index, error, base64.b64encode(payload).decode(), time.time_ns()
            )
            self._file.write(self._encoder.encode(letter) + b"\n")
        if letters:
            self._file.flush()
            os.fdatasync(self._file.fileno())
        return len(letters)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "DeadLetters":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
