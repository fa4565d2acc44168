"""What every sink promises: it follows the tape as a holding cursor and confirms what it has kept."""

from typing import Protocol

__all__ = ["Sink"]


class Sink(Protocol):
    """Where trades are also written."""

    @property
    def lag(self) -> int:
        """Trades on the tape that the sink has yet to confirm."""

    @property
    def state(self) -> str:
        """``live``, or what is wrong, for people."""

    @property
    def lost(self) -> int:
        """Trades that it refused for good and that were passed over."""

    async def run(self) -> None:
        """Follow the tape until cancelled."""

    async def close(self, *, drain_s: float) -> None:
        """Write what is still on the tape, for at most ``drain_s`` seconds, and let go."""
