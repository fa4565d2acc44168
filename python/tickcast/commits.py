"""What goes with a committed position on Kafka, as the commit's metadata: what whoever takes over has to know."""

import re

import msgspec

__all__ = ["CommitNote"]

_TEXT = re.compile(r"tickcast(?: lowest=(\d+))?(?: by=(\S+))?(?: of=([0-9a-f]{8}))?")


class CommitNote(msgspec.Struct, frozen=True):
    """A note on a commit."""

    lowest: int | None = None
    """Lowest offset that a window still holds, or rules look back on; None: not known."""
    by: str | None = None
    """Transactional id of the sink that committed; None: no transaction."""
    stream: int | None = None
    """Stream that it is a position of: a topic that was deleted and made again is another one. None: not known."""

    def text(self) -> str:
        """Return the metadata."""
        lowest = "" if self.lowest is None else f" lowest={self.lowest}"
        by = "" if self.by is None else f" by={self.by}"
        return f"tickcast{lowest}{by}" + ("" if self.stream is None else f" of={self.stream:08x}")

    @classmethod
    def read(cls, text: str | None) -> "CommitNote":
        """Read metadata; of such that was not written here nothing is known."""
        found = _TEXT.fullmatch(text or "")
        if found is None:
            return cls()
        return cls(int(found[1]) if found[1] else None, found[2], int(found[3], 16) if found[3] else None)
