"""``jsonl:FILE``: every trade in the plain JSON form, one a line, in order, each exactly once."""

import os
from pathlib import Path

import msgspec

from tickcast._core import Hold
from tickcast.sinks.following import FollowingSink

__all__ = ["JsonlSink"]

MAX_TRADES = 4096
TAIL_BYTES = 64 * 1024


class _Line(msgspec.Struct, rename="camel"):
    trade_id: str


class JsonlSink(FollowingSink):
    """Appends to a file.

    The tape remembers what was confirmed. After a crash the file may hold more than that: a torn last line is cut
    off, and the trades up to its last whole line's id are skipped.
    """

    def __init__(self, path: Path, hold: Hold) -> None:
        """Open the file.

        Raises:
            OSError: It can't be opened for writing.
        """
        super().__init__(hold)
        self._path = path
        self._file = path.open("ab")
        last = self._cut_torn_line()
        if last is not None:
            hold.skip_through(last)

    def _write_next(self, wait_s: float) -> bool:
        lines, last = self._hold.read_lines(MAX_TRADES, wait_s)
        if not lines:
            return True
        size = self._file.tell()
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            self._state = f"cannot write {self._path}: {error.strerror}"
            os.truncate(self._path, size)
            return False
        self._state = "live"
        self._hold.confirm(last)
        return True

    def _let_go(self) -> None:
        with self._writing:
            self._file.close()

    def _cut_torn_line(self) -> str | None:
        """Cut a torn last line off; return the trade id of the last whole one."""
        size = self._path.stat().st_size
        with self._path.open("rb+") as file:
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
            whole, newline, torn = tail.rpartition(b"\n")
            if torn:
                file.truncate(size - len(torn))
        if not newline:
            return None
        try:
            return msgspec.json.decode(whole.rpartition(b"\n")[2], type=_Line).trade_id
        except msgspec.DecodeError:
            return None
