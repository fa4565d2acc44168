"""Says in the log when the source, a sink or the like can't work, and when it can again: once for each time."""

import logging
import time

__all__ = ["Outages"]

log = logging.getLogger("tickcast.processor")

AFTER_S = 3.0
"""What is mended by then is not worth a word."""


class Outages:
    """Remembers what is down."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def note(self, name: str, *, works: bool, detail: str) -> None:
        """Note how something stands, such as ``sink kafka://broker/trades``."""
        now = time.monotonic()
        if works:
            self._since.pop(name, None)
            if name in self._told:
                self._told.discard(name)
                log.warning("%s works again", name)
        elif now - self._since.setdefault(name, now) >= AFTER_S and name not in self._told:
            self._told.add(name)
            log.warning("%s does not work: %s", name, detail)
