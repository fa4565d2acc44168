"""The windows on disk, where the source keeps no log from which they could be read again.

A checkpoint is copied step by step on the event loop, between batches, and written in a thread; each step is bounded,
so judging hardly waits. At the start it is put together with what the tape has had since.
"""

import asyncio
import logging
import time
from pathlib import Path

import msgspec

from tickcast._core import Judge, TapeWriter, WindowCheckpoint
from tickcast.errors import SourceError
from tickcast.processor.line import Line

__all__ = ["Checkpoints", "Restored"]

log = logging.getLogger("tickcast.processor")

LEAST_PAUSE = 4
"""The next checkpoint comes this many times later than the last one took, at the earliest."""
MOMENT_S = 0.001


class Restored(msgspec.Struct, frozen=True, rename="camel"):
    """What the windows were filled with at the start."""

    from_checkpoint: int = 0
    """Ticks."""
    from_tape: int = 0
    """Ticks."""
    age_s: float | None = None
    """How old the checkpoint was, seconds; None: there was none."""
    missing: int | None = 0
    """Trades between checkpoint and tape that neither has; None: not known, the tape is another one."""
    trouble: str = ""
    """Why the checkpoint could not be read."""


class Checkpoints:
    """Keeps the windows in a file.

    Args:
        path: The file.
        judge: Whose windows.
        line: What enters them.
        writer: The tape.
        pause_s: Between two checkpoints, at least.
    """

    def __init__(self, path: Path, judge: Judge, line: Line, writer: TapeWriter, pause_s: float) -> None:
        self._path, self._judge, self._line, self._writer, self._pause_s = path, judge, line, writer, pause_s
        self.written_s = 0.0
        """When the last one was begun, by the wall clock; 0: none yet."""
        self.longest_step_s = 0.0
        """Longest time that one step kept the event loop."""
        self.trouble = ""
        """Why the last one could not be written."""

    def restore(self) -> Restored:
        """Fill the windows; a file that can't be used is told, and the tape alone has to do."""
        trouble = ""
        try:
            found = self._writer.restore(self._judge, self._path)
        except (SourceError, OSError) as error:
            found, trouble = None, str(error)
        if found is None:
            restored = Restored(from_tape=self._writer.refill(self._judge), trouble=trouble)
        else:
            written_ns, kept, ticks, missing = found
            restored = Restored(kept, ticks, max(0.0, time.time() - written_ns / 1e9), missing)
        tell(restored)
        return restored

    async def run(self) -> None:
        """Write checkpoints until cancelled."""
        while True:
            start = time.monotonic()
            await self.save()
            await asyncio.sleep(max(self._pause_s, LEAST_PAUSE * (time.monotonic() - start)))

    async def save(self) -> None:
        """Write one; what goes wrong is told once, and tried again the next time."""
        begun_s = time.time()
        try:
            checkpoint = await asyncio.to_thread(WindowCheckpoint, self._path, self._judge, self._writer.epoch)
            while await self._step(checkpoint):
                await asyncio.to_thread(checkpoint.write)
            await asyncio.to_thread(checkpoint.finish)
        except OSError as error:
            if not self.trouble:
                log.warning("the windows can't be written to disk: %s", error)
            self.trouble = str(error)
            return
        self.trouble, self.written_s = "", begun_s

    async def _step(self, checkpoint: WindowCheckpoint) -> bool:
        while self._line.is_delivering:  # what is settled is not on the tape yet  # noqa: ASYNC110 (for a moment)
            await asyncio.sleep(MOMENT_S)
        start = time.perf_counter()
        more = checkpoint.step(self._judge, self._writer.head)
        self.longest_step_s = max(self.longest_step_s, time.perf_counter() - start)
        return more


def tell(restored: Restored) -> None:
    """Log what the windows were filled with, and what is missing."""
    if restored.trouble:
        log.warning("%s; the windows are filled from the tape alone", restored.trouble)
    if restored.age_s is None:
        if restored.from_tape:
            log.info("%d ticks back in the windows, from the tape", restored.from_tape)
        return
    log.info(
        "%d ticks back in the windows from the checkpoint of %.1f s ago, %d from the tape",
        restored.from_checkpoint,
        restored.age_s,
        restored.from_tape,
    )
    if restored.missing is None:
        log.warning("the tape is another one: what was judged in the %.1f s since is missing", restored.age_s)
    elif restored.missing:
        log.warning("%d trades since the checkpoint are no longer on the tape, and missing", restored.missing)
