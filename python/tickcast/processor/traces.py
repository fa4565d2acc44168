"""Trace contexts (W3C ``traceparent``) from a tick's message to that of its trade, past the tape, which keeps none."""

from collections.abc import Iterable

__all__ = ["Traces"]

MAX_TRACES = 65_536
"""Contexts kept; beyond it the oldest are forgotten. A trade that is written again after a restart has none."""
MESSAGE_DIGITS = 28
"""Digits of a trade id that name the message of its tick."""


class Traces:
    """The contexts of ticks whose trades may yet be written. Noted by one thread, read by any."""

    def __init__(self) -> None:
        self._by_message: dict[str, str] = {}

    def note(self, contexts: Iterable[tuple[str, str]]) -> None:
        """Learn contexts: the part of the trade ids that names the message, and ``traceparent``."""
        self._by_message.update(contexts)
        while len(self._by_message) > MAX_TRACES:
            del self._by_message[next(iter(self._by_message))]

    def of(self, trade_id: str) -> str | None:
        """Return the context that the tick of a trade came with."""
        return self._by_message.get(trade_id[:MESSAGE_DIGITS])
