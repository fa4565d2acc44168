"""Logs: what every process writes to stderr, and the log files through which a supervisor reads its children's.

A supervised child writes to ``<run-dir>/log/<name>.log`` and not into a pipe: a pipe would break, and the child with
it, when the supervisor is killed. The supervisor copies what is new to its own stderr.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

__all__ = ["LogFile", "configure"]

_FOLLOW_S = 0.1
_MAX_BYTES = 64 * 1024 * 1024
_TAIL_BYTES = 8_192


def configure(level: str) -> None:
    """Log from `level` on to stderr: time, level, logger, message."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )


class LogFile:
    """A child's log, opened for appending and followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = path.stat().st_size if path.exists() else 0
        self._from = self._read_to

    def open(self) -> int:
        """Return a descriptor for a child to write to; what it writes is counted from here on by `last_line`."""
        if self.path.exists() and self.path.stat().st_size > _MAX_BYTES:
            self.path.replace(self.path.with_suffix(".log.1"))
            self._read_to = 0
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._from = os.fstat(descriptor).st_size
        return descriptor

    def last_line(self) -> str:
        """Return the last line that is not blank since `open`, empty if there is none."""
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._from, end - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def copy_news(self, out: TextIO, prefix: str) -> None:
        """Copy the whole lines that are new to `out`, each with a prefix."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._read_to = 0 if size < self._read_to else self._read_to
                file.seek(self._read_to)
                news = file.read(_MAX_BYTES)
        except OSError:
            return
        whole = news[: news.rfind(b"\n") + 1]
        self._read_to += len(whole)
        if whole:
            out.write("".join(f"{prefix}{line}\n" for line in whole.decode(errors="replace").splitlines()))
            out.flush()
        if self._read_to > _MAX_BYTES:
            os.truncate(self.path, 0)  # its writer appends, so it goes on at the start
            self._read_to = 0

    async def follow(self, out: TextIO, prefix: str) -> None:
        """Copy new lines until cancelled, and what is left then."""
        try:
            while True:
                self.copy_news(out, prefix)
                await asyncio.sleep(_FOLLOW_S)
        finally:
            self.copy_news(out, prefix)
