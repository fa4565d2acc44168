"""A file of lines that is appended to: what a crash has torn is cut off, what the disk refuses leaves no trace."""

import contextlib
import os
from pathlib import Path

__all__ = ["LineFile"]

TAIL_BYTES = 64 * 1024


class LineFile:
    """Appends whole lines.

    Args:
        path: The file.
        truncate: Begin it anew.
    """

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        """Open the file, and cut off a last line that is not whole.

        Raises:
            OSError: It can't be opened for writing.
        """
        # Without a buffer: what the disk refuses would stay there, and be written once there is room again.
        self._file = path.open("wb" if truncate else "ab", buffering=0)
        self.last = b"" if truncate else self._cut_torn_line(path)
        """The last line that was there, without its end; empty where there was none."""
        self._size = self._file.seek(0, os.SEEK_END) if self._file.seekable() else 0

    def append(self, lines: bytes, *, to_disk: bool = False) -> None:
        """Write lines, each with its end; ``to_disk``: wait until they are there.

        Raises:
            OSError: They can't be written; the file is as it was.
        """
        try:
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
            if to_disk:
                os.fdatasync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a pipe has no end to be cut
                self._file.truncate(self._size)
            raise
        self._size += len(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @staticmethod
    def _cut_torn_line(path: Path) -> bytes:
        if not path.is_file():
            return b""
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            back, tail = 0, b""
            while back < size and tail.count(b"\n") < 2:
                back = min(size, 2 * back or TAIL_BYTES)
                file.seek(size - back)
                tail = file.read()
            whole, _, torn = tail.rpartition(b"\n")
            if torn:
                file.truncate(size - len(torn))
        return whole.rpartition(b"\n")[2]
