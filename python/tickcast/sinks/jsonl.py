"""``jsonl:FILE``: every trade in the plain JSON form, one a line, in order, each exactly once."""

import contextlib
from pathlib import Path

import msgspec

from tickcast._core import Hold
from tickcast.lines import LineFile
from tickcast.sinks.following import FollowingSink

__all__ = ["JsonlSink"]

MAX_TRADES = 4096


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
        self._file = LineFile(path)
        with contextlib.suppress(msgspec.DecodeError):  # no line of ours, or none
            hold.skip_through(msgspec.json.decode(self._file.last, type=_Line).trade_id)

    def _write_next(self, wait_s: float) -> bool:
        lines, last = self._hold.read_lines(MAX_TRADES, wait_s)
        if not lines:
            return True
        try:
            self._file.append(lines)
        except OSError as error:
            self._state = f"cannot write {self._path}: {error.strerror}"
            return False
        self._state = "live"
        self._hold.confirm(last)
        return True

    def _let_go(self) -> None:
        self._file.close()
