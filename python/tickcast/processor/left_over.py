"""What an earlier processor left on the tape for sinks, and nobody will write any more: told at the start."""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tickcast._core import TapeReader, TapeWriter
from tickcast.errors import TickcastError
from tickcast.urls import mask

__all__ = ["LeftOver"]

log = logging.getLogger("tickcast.processor")


class Waiting(msgspec.Struct):
    """A sink on the status board."""

    url: str
    lag: int


class Board(msgspec.Struct):
    """What counts here of the status board."""

    sinks: list[Waiting] = []


class LeftOver:
    """The tape of a run directory as it was before this start.

    Args:
        run_dir: The run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self._epoch, self._head, self._waiting = "", 0, dict[str, int]()
        try:
            reader = TapeReader.open(run_dir)
            self._epoch, self._head = reader.epoch, reader.head
            board = msgspec.json.decode(reader.board() or b"{}", type=Board)
        except (TickcastError, OSError, msgspec.MsgspecError):
            return  # none, or none that can be read
        self._waiting = {sink.url: sink.lag for sink in board.sinks if sink.lag}

    def tell(self, writer: TapeWriter, sinks: Sequence[str]) -> None:
        """Say in the log what is lost to sinks with the tape that is written from now on.

        Args:
            writer: That tape.
            sinks: URLs of the sinks that there are now.
        """
        if self._head and f"{writer.epoch:016x}" != self._epoch:
            log.warning(
                "a new tape begins: the one that was there, up to %d, has other settings (tape.bytes, "
                "tape.max_instruments, enrichments), is of another version, or is not whole after a restart of the "
                "machine",
                self._head,
            )
            lost = self._waiting
        else:
            here = {mask(url) for url in sinks}
            lost = {url: lag for url, lag in self._waiting.items() if url not in here}
        for url, lag in lost.items():
            log.warning("%d trades that waited for %s are not written by this start", lag, url)
