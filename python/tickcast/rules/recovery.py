"""Reads the notes of a worker that is late or dead, and says what is to blame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tickcast.rules.notes import (
    AWAIT_CODE,
    AWAIT_RULE,
    AWAIT_TASK,
    BEAT,
    CHUNK_CODE,
    CHUNK_SINCE,
    CODE,
    MANY,
    RULE,
    SINCE,
    TASK,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcast.rules.parts import Part

__all__ = ["Finding", "after_death", "find_stall"]

_STALL_DEADLINES: Final = 4
_STALL_NS: Final = 1_000_000_000
_HOPELESS_DEATHS: Final = 5


@dataclass(slots=True)
class Finding:
    """What is to blame for a hang or a death."""

    part: int = 0
    """Number of the part; 0: none in particular."""
    rule: int = 0
    """The rule, from 1; 0: unknown."""
    code: int | None = None
    """The instrument; None: still to be found out, by judging the part one instrument at a time."""
    why: str = ""
    hopeless: list[Part] = field(default_factory=list)
    """Parts that no worker survives, and that no rule can be blamed for."""


def find_stall(words: Sequence[int], now_ns: int, heard_ns: int, deadline_ns: int) -> Finding | None:
    """Return what hangs in a worker that has something to do; None: nothing does.

    Args:
        words: Its notes.
        now_ns: Monotonic clock.
        heard_ns: When something was last handed to it, or came from it.
        deadline_ns: For one call of a rule.
    """
    part, rule = words[TASK], words[RULE]
    since_ns, chunk_ns = words[SINCE], words[CHUNK_SINCE]
    why = f"did not come back within {deadline_ns / 1e6:.0f} ms"
    if rule:
        if now_ns - since_ns > deadline_ns:
            return Finding(part, rule, _one(words[CODE]), why)
        if now_ns - chunk_ns > deadline_ns:  # no tick of the run took that long, but all of them together
            return Finding(part, rule, _one(words[CHUNK_CODE]), why)
    quiet_ns = now_ns - max(heard_ns, words[BEAT], since_ns, chunk_ns)
    if quiet_ns > max(_STALL_DEADLINES * deadline_ns, _STALL_NS):
        return Finding()  # outside of any rule: a thread of the library's, a stopped process
    return None


def after_death(words: Sequence[int], begun: list[Part]) -> Finding:
    """Return what to blame for a worker that ended by itself, having begun with these parts.

    Once is nobody's fault: the part is tried again. A second time it is isolated, unless both times the very same rule
    and instrument were at it; a worker that dies on an isolated part has named its culprit.
    """
    rule, code, number = words[RULE], words[CODE], words[TASK]
    if not rule:  # between two awaits of a rule, then, if it was any rule's doing; of a part alone one knows which
        rule, code, number = words[AWAIT_RULE], words[AWAIT_CODE], words[AWAIT_TASK]
        rule *= any(part.number == number and part.isolate for part in begun)
    noted = next((part for part in begun if part.number == number), None) if rule else None
    finding = Finding()
    for part in begun:
        if noted is None:
            part.deaths.append((0, MANY))
            if len(part.deaths) == 2:
                # No rule was noted at it, though each had its chance: all are isolated.
                part.isolate |= set(range(1, 1 + len(part.batch.declaration.rules)))
        if len(part.deaths) >= _HOPELESS_DEATHS:
            finding.hopeless.append(part)
    if noted is None:
        return finding
    again = (rule, code) in noted.deaths
    noted.deaths.append((rule, code))
    if len(noted.deaths) == 1:
        return finding
    finding.part, finding.rule = noted.number, rule
    finding.why = "ended its worker"
    if code != MANY and (again or rule in noted.isolate):
        finding.code = code
    return finding


def _one(code: int) -> int | None:
    return None if code == MANY else code
