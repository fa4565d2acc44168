"""Trace contexts (W3C ``traceparent``) from a tick's message to that of its trade, past the tape, which keeps none."""

from collections.abc import Iterable

__all__ = ["Traces"]

MAX_TRACES = 65_536
"""Contexts kept; beyond it the oldest are forgotten. A trade that is written again after a restart has none."""


class Traces:
    """The contexts of ticks whose trades may yet be written. Noted by one thread, read by any."""

    def __init__(self) -> None:
        self.by_message: dict[str, str] = {}
        """``traceparent`` by the digits of trade ids that name the message."""

    def note(self, contexts: Iterable[tuple[str, str]]) -> None:
        """Learn contexts: the part of the trade ids that names the message, and ``traceparent``."""
        self.by_message.update(contexts)
        while len(self.by_message) > MAX_TRACES:
            del self.by_message[next(iter(self.by_message))]
