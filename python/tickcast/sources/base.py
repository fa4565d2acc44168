"""What every source promises to the processor."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tickcast._core import Batch, EarlierVerdicts

__all__ = [
    "VERDICT_MARGIN_MS",
    "VERDICT_PATIENCE_S",
    "Lag",
    "LaggingSource",
    "LogSource",
    "Position",
    "RereadSource",
    "SavingSource",
    "SilentSource",
    "Source",
    "SourceState",
]

Position = tuple[int, int, int, int]
"""Stream, partition, offset, index within the message."""

VERDICT_MARGIN_MS = 60_000
"""A judged trade may stand in its log with a time that is so much before its tick's: brokers' clocks differ."""
VERDICT_PATIENCE_S = 30.0
"""Longest wait for what ticks were judged; what is not known then is judged again."""


class SourceState(msgspec.Struct, frozen=True):
    """Where a source stands: ``live``, ``stale``, ``reconnecting`` or ``ended``."""

    state: str
    since: int
    """When this state began, ns since the Unix epoch."""
    detail: str = ""
    """What is being done about it, for people."""

    @staticmethod
    def now(state: str, detail: str = "") -> "SourceState":
        """Return a state that begins now."""
        return SourceState(state, time.time_ns(), detail)


class Lag(msgspec.Struct, frozen=True):
    """What a partition of a source still holds."""

    name: str
    """Of the partition, for people."""
    lag: int | None
    """Messages between what has been handed out and the partition's end; None: the end is not known yet."""


class Source(Protocol):
    """Where ticks come from. One is open at a time; its calls are not made concurrently."""

    live: bool
    """Ticks are happening now: missing timestamps are stamped, timestamps far ahead are refused."""

    @property
    def positioned(self) -> bool:
        """Whether ticks have positions upstream from which reading can go on."""

    async def open(self, positions: Sequence[Position]) -> None:
        """Connect and go on right after what the tape has.

        Args:
            positions: The tape's last position of each stream and partition.

        Raises:
            SourceError: The source can't be read, and trying again would not help.
        """

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for ticks and return what there is, at most about ``max_rows``; None when the source has ended."""

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Learn that the tape and all sinks have everything of a partition up to ``position``.

        Args:
            position: The last one that they have.
            lowest: Offset from which the partition has to be read again to have the windows as they were then; None:
                not known.
        """

    def state(self) -> SourceState:
        """Return where the source stands."""

    @property
    def lost(self) -> int:
        """Messages that were lost and can't be had again."""

    async def close(self) -> None:
        """Disconnect. `next` isn't called again."""


@runtime_checkable
class LaggingSource(Protocol):
    """A source that knows how far it is behind."""

    def lags(self) -> list[Lag]:
        """Return the lag of each partition that is read here, as of lately."""


@runtime_checkable
class SavingSource(Protocol):
    """A source that keeps its position upstream, under a name."""

    @property
    def save_trouble(self) -> str | None:
        """Why the position could not be kept lately; None: it was, or there is none to be kept."""


@runtime_checkable
class SilentSource(Source, Protocol):
    """A source that reads ticks again, silently, whose trades are elsewhere already."""

    earlier: EarlierVerdicts
    """What those ticks were judged: by the tape, and by what has the judged trades."""


@runtime_checkable
class RereadSource(SilentSource, Protocol):
    """A source that reads again what the windows hold where the tape does not reach as far back as they do."""

    def attach_tape(self, first: Sequence[Position], begin: Callable[[int, int, bool], Awaitable[None]]) -> None:
        """Learn what the windows were filled with, and whom to tell whether that is enough.

        Args:
            first: First position of each stream and partition that the tape still has.
            begin: Called with (stream, partition, whether all of the windows is read again), before the first batch.
        """


@runtime_checkable
class LogSource(SilentSource, Protocol):
    """A source that fills the windows itself, from the log, for the partitions that it is given."""

    def attach(self, epoch: int, begin: Callable[[int, int, bool], Awaitable[int]]) -> None:
        """Learn which tape it is, and how to have a partition begin anew, in order with what was handed out.

        Args:
            epoch: The tape's.
            begin: Called with (stream, partition, whether positions of before go on to count). Empties the windows of
                the partition's instruments, and returns the tape's head, behind which its trades will come.
        """

    def appended(self, positions: Iterable[Position]) -> None:
        """Learn that the tape has what was handed out, up to these positions."""
