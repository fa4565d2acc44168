"""What waits of one partition of a Kafka topic between the thread that reads and the judge."""

from collections import deque

from confluent_kafka import OFFSET_INVALID, Message

__all__ = ["Shelf", "offset_of"]


class Shelf:
    """Messages of one partition that wait to be decoded, and how far the partition has come."""

    def __init__(self, resume: int, lowest: int | None, *, goes_on: bool) -> None:
        self.goes_on = goes_on
        """The tape may have trades of it that are for the sinks: it was ours before the start and never given up."""
        self.lowest = lowest
        """Offset from which it has been read: windows need nothing before it. None: not known."""
        self.resume = resume
        """First offset whose trades go out; what lies before only fills the windows."""
        self.messages: deque[Message] = deque()
        self.is_fresh = True
        """Nothing has been handed out: the windows of its instruments begin anew."""
        self.remembers = True
        """Verdicts on its ticks of earlier may be kept."""
        self.looked_up = False
        """They were looked for in the topic of judged trades."""
        self.taken = -1
        """Last offset handed out for trades."""
        self.saved = -1
        """Last offset that tape and sinks have."""
        self.committed: tuple[int, str] | None = None
        self.wanted: tuple[int, str] | None = None
        """Offset to commit, with its note."""

    @property
    def is_silent(self) -> bool:
        """Whether a message waits that only fills the windows."""
        return bool(self.messages) and offset_of(self.messages[0]) < self.resume


def offset_of(message: Message) -> int:
    """Return a message's offset, which every message that was received has."""
    offset = message.offset()
    return OFFSET_INVALID if offset is None else offset
