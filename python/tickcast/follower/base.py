"""What every source of judged trades promises to the follower."""

from typing import Protocol, TypeAlias

import msgspec

from tickcast._core import FrameNames, TapeWriter
from tickcast.sources.base import Position, SourceState

__all__ = ["Counts", "Known", "Start", "TradeSource", "Trades"]

Counts: TypeAlias = tuple[int, int, int]
"""How many trades are UNKNOWN, VALID, INVALID."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The tape that an earlier life of the follower has left."""

    epoch: int
    """Id of its numbering."""
    head: int
    """Its last sequence."""
    enrichments: tuple[tuple[str, str], ...]
    """Name and unit of each further column."""
    positions: tuple[Position, ...]
    """The last position of each partition, for sources that read by positions."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape has to be like for the trades that follow; comes before the first ones, and whenever that changes.

    A tape that does not fit is replaced.
    """

    epoch: int | None = None
    """Epoch of the tape that is followed; None: the tape has a numbering of its own."""
    enrichments: tuple[tuple[str, str], ...] = ()
    """Name and unit of each further column."""
    from_seq: int | None = None
    """First sequence that will come; what the tape lacks before it is a hole. None: they go on where the tape ends."""
    fresh: bool = False
    """The tape that is there can't be continued."""
    rules: tuple[str, ...] = ()
    """Rules in order of the numbers that trades name."""
    rule_sets: tuple[str, ...] = ()
    """Rule sets in order of the numbers that trades name."""
    rule_set: str = ""
    """The rule set in force, ``name@version``."""
    volume_scale: int | dict[str, int] | None = None
    """What volumes have been multiplied by, all of them or those of single instruments; None: not known."""
    snapshot: tuple[FrameNames, bytes] | None = None
    """Newest values of instruments whose trades came before `from_seq`."""


class Trades(Protocol):
    """Trades, or a gap, on their way to the tape."""

    def write(self, tape: TapeWriter) -> Counts | None:
        """Put them on the tape; None where a sink has yet to confirm what would be overwritten: called again then."""


class TradeSource(Protocol):
    """Where judged trades come from. Reconnects by itself, for ever; its calls are not made concurrently."""

    async def open(self, known: Known | None) -> None:
        """Prepare to go on right after what the tape has."""

    async def next(self) -> Start | Trades | None:
        """Wait for what comes next; None when the source has ended. What was returned before is on the tape.

        Raises:
            SourceError: The source can't be read, and trying again would not help.
        """

    async def judge(self, payload: bytes) -> list[str]:
        """Have a client's tick judged where the rules are; return the trades as JSON.

        Raises:
            JudgeAwayError: Nobody can judge it now.
        """

    def state(self) -> SourceState:
        """Return where the source stands."""

    @property
    def lost(self) -> int:
        """Trades that were lost and can't be had again."""

    async def close(self) -> None:
        """Disconnect. `next` isn't called again."""
