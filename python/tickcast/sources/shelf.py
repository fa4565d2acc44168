"""What waits of one partition of a Kafka topic between the thread that reads and the judge."""

from collections import deque

from tickcast._core import Inbox

__all__ = ["Shelf"]


class Shelf:
    """Messages of one partition that wait to be decoded, and how far the partition has come."""

    def __init__(
        self, resume: int, lowest: int, *, goes_on: bool, stream: int = 0, committed: int = 0, lost: int = 0
    ) -> None:
        self.lost = lost
        """Messages that were to be read when the topic had them no more."""
        self.stream = stream
        """Stream of its positions."""
        self.goes_on = goes_on
        """The tape may have trades of it that are for the sinks: it was ours before the start and never given up."""
        self.lowest = lowest
        """Offset from which it has been read: windows need nothing before it."""
        self.resume = resume
        """First offset whose trades go out; what lies before only fills the windows."""
        self.inboxes: deque[Inbox] = deque()
        self.is_fresh = True
        """Nothing has been handed out: the windows of its instruments begin anew."""
        self.remembers = True
        """Verdicts on its ticks of earlier may be kept."""
        self.looked_up = False
        """They were looked for in the topic of judged trades."""
        self.taken = -1
        """Last offset handed out for trades."""
        self.saved = committed - 1
        """Last offset that tape and sinks have, or its last owner's had."""
        self.committed: tuple[int, str] | None = None
        self.wanted: tuple[int, str] | None = None
        """Offset to commit, with its note."""

    @property
    def is_silent(self) -> bool:
        """Whether a message waits that only fills the windows."""
        try:
            return self.inboxes[0].first_offset < self.resume
        except IndexError:  # asked without a lock: another thread may throw away what waits at any moment
            return False

    def take(self, messages: int, size: int) -> list[Inbox]:
        """Take so many messages and about so many bytes at most; whose trades go out, or only fill the windows."""
        taken: list[Inbox] = []
        before = self.resume if self.is_silent else None
        while self.inboxes and messages > 0 and size > 0 and self.is_silent == (before is not None):
            front, rest = self.inboxes.popleft().split(messages, size, before)
            if rest is not None:
                self.inboxes.appendleft(rest)
            taken.append(front)
            messages, size = messages - len(front), size - front.size
        if taken and before is None:
            self.taken = taken[-1].last_offset
        return taken

    def clear(self) -> tuple[int, int]:
        """Throw away what waits; return how many messages and bytes that were."""
        thrown = sum(map(len, self.inboxes)), sum(inbox.size for inbox in self.inboxes)
        self.inboxes.clear()
        return thrown
