"""What a worker is doing right now, noted where its parent can read it: in shared memory, word by word.

A worker that hangs or dies can't tell why. So before each call of user code it notes the rule, the instrument and the
time, and clears the note afterwards; the parent reads the note of a worker that is late, or dead.

One writer (the worker's event loop thread), one reader. Words are written one by one: a reader that catches a note
half-written sees a `SINCE` that is not old, and leaves it alone.
"""

from __future__ import annotations

import time
from typing import Final

__all__ = [
    "AWAIT_CODE",
    "AWAIT_RULE",
    "AWAIT_TASK",
    "BEAT",
    "CHUNK_CODE",
    "CHUNK_SINCE",
    "CODE",
    "FLAGS",
    "MANY",
    "RULE",
    "SINCE",
    "STATS",
    "STAT_WORDS",
    "TASK",
    "Notes",
]

# Words of 64 bits.
BEAT: Final = 0  # when the event loop last turned, monotonic ns
TASK: Final = 1  # the task whose rule runs
RULE: Final = 2  # the rule that runs, from 1; 0: no user code runs
CODE: Final = 3  # the instrument it looks at; MANY: several
SINCE: Final = 4  # since when, monotonic ns
CHUNK_CODE: Final = 5  # the same for the run of ticks that the call is part of
CHUNK_SINCE: Final = 6
AWAIT_TASK: Final = 7  # the task whose `async` rule is being awaited, all of it: the rule may not be running now
AWAIT_RULE: Final = 8
AWAIT_CODE: Final = 9
FLAGS: Final = 16  # one word for each slot: 1 once its task was begun
STATS: Final = 64  # then STAT_WORDS words for each rule: calls, rows, raised, ns spent in user code, refused in shadow
STAT_WORDS: Final = 5

MANY: Final = -1

_now = time.monotonic_ns


class Notes:
    """The worker's side of the notes.

    Args:
        words: At least ``STATS + STAT_WORDS * rules`` words of 64 bits, signed. None: private memory, nobody looks on
            (in-line rules), but counts are kept just the same.
        rules: Number of rules.
    """

    __slots__ = ("words",)

    def __init__(self, words: memoryview | None, rules: int) -> None:
        self.words = words if words is not None else memoryview(bytearray(8 * self.size(rules))).cast("q")

    @staticmethod
    def size(rules: int) -> int:
        """Return the number of words needed."""
        return STATS + STAT_WORDS * rules

    def enter(self, task: int, rule: int, code: int) -> int:
        """Note that a rule is called for columns; returns the time for `leave`."""
        words = self.words
        now = _now()
        words[TASK] = task
        words[CODE] = words[CHUNK_CODE] = code
        words[SINCE] = words[CHUNK_SINCE] = now
        words[RULE] = rule  # last: before it, the note says that nothing runs
        return now

    def enter_tick(self, task: int, rule: int, code: int) -> int:
        """Note that a rule is called for one tick of a run that `chunk` began."""
        words = self.words
        now = _now()
        words[TASK] = task
        words[CODE] = code
        words[SINCE] = now
        words[RULE] = rule
        return now

    def chunk(self, code: int) -> None:
        """Note that a run of ticks begins, all of one instrument or of ``MANY``."""
        words = self.words
        words[RULE] = 0
        words[CHUNK_CODE] = code
        words[CHUNK_SINCE] = _now()

    def await_all(self, task: int, rule: int, code: int) -> None:
        """Note that an ``async`` rule is awaited for one instrument or ``MANY``; rule 0: no longer.

        Of several batches at once the last one counts: it is read of parts that a worker has alone.
        """
        words = self.words
        words[AWAIT_TASK] = task
        words[AWAIT_CODE] = code
        words[AWAIT_RULE] = rule

    def leave(self, rule: int, since: int) -> None:
        """Clear the note and add the time spent to the rule's."""
        words = self.words
        words[RULE] = 0
        words[STATS + STAT_WORDS * (rule - 1) + 3] += _now() - since

    def count(self, rule: int, calls: int, rows: int) -> None:
        """Count calls of a rule and the rows that they covered."""
        place = STATS + STAT_WORDS * (rule - 1)
        self.words[place] += calls
        self.words[place + 1] += rows

    def count_raised(self, rule: int, rows: int) -> None:
        """Count rows that a rule raised on."""
        self.words[STATS + STAT_WORDS * (rule - 1) + 2] += rows

    def count_refused(self, rule: int, rows: int) -> None:
        """Count rows that a rule in shadow would have decided on."""
        self.words[STATS + STAT_WORDS * (rule - 1) + 4] += rows
