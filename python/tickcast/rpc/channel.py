"""The frames of the tape's gRPC subscribers: made once for all who want the same and stand at the same place.

What has come since the last frame rides in the next one. The places of streams that keep pace are their channel's own;
one that does not is served from its place (`look_at`) until it has caught up, and shares frames again.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from tickcast._core import TapeFeed, TapeFilter
from tickcast.rpc import tape_pb2 as pb

__all__ = ["FRAMES_PER_S", "Channel", "Look", "Place", "Wanted", "filter_of", "look_at", "most_known"]

FRAMES_PER_S = 40
"""How often a subscription gets what is new."""
FRAME_TRADES = 4_096
FRAME_BYTES = 256 * 1024
"""Most bytes of a frame: a stream never has more than one that is not in the transport's hands."""
RATED_FRAME_BYTES = 1024 * 1024
"""The same where the subscriber wants fewer frames."""
MOST_CONFLATED = 65_536
"""Most trades that are looked at for one frame in mode latest, where it can't be made from the board."""
SHARED_BYTES = 1024 * 1024
"""Bytes of frames that a subscription keeps for streams a little behind."""


class Wanted(msgspec.Struct, frozen=True):
    """What is subscribed to: equal ones get the same frames."""

    instruments: tuple[str, ...] | None = None
    statuses: tuple[int, ...] | None = None
    stages: bool = False
    why: bool = False
    latest: bool = False
    """Of each instrument the newest trade only."""
    pause_s: float = 0.0
    """Time between two frames; 0: as they come."""


class Place(msgspec.Struct):
    """Where a receiver stands."""

    covered: int
    """Last sequence that it was told of."""
    next_seq: int
    """First sequence to look at: none in between is wanted."""
    known: tuple[int, int]
    """How many instruments and reasons it knows."""
    mark: tuple[int, int] | None = None
    """Where it stands on the board, in mode latest."""


class Look(msgspec.Struct, frozen=True):
    """What a look at the tape gave."""

    kind: str
    """``frame``, ``overrun`` or ``hole``, as `TapeFeed.frame` has them."""
    to: int
    body: bytes | None
    known: tuple[int, int]
    mark: tuple[int, int] | None


class _Frame(msgspec.Struct, frozen=True):
    """A frame that streams share."""

    seq: int
    to_seq: int
    body: bytes
    needs: tuple[int, int]
    """How many instruments and reasons its receiver has to know."""
    known: tuple[int, int]
    """How many it knows then."""
    mark: tuple[int, int] | None


class Channel:
    """A cohort of a distinct subscription: its newest frames, how far they reach, and when its next turn is."""

    def __init__(self, wanted: Wanted, number: int, place: Place, due: float) -> None:
        self.wanted = wanted
        self.number = number
        self.due = due
        self.turns = 0
        """How many there were: a subscription with a rate of its own gets a frame at each, at most."""
        self.filter = filter_of(wanted)
        self.place = place
        self.streams = 0
        self._quiet_since = due
        self._frames: deque[_Frame] = deque()
        self._bytes = 0
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def pause_s(self) -> float:
        """Time between two turns."""
        return self.wanted.pause_s or 1 / FRAMES_PER_S

    def turn(self, feed: TapeFeed, head: int, now: float, quiet_s: float) -> None:
        """Make the frames of what is new up to `head`; after so long a quiet time, one that says how far it reaches."""
        self.due = max(self.due + self.pause_s, now)
        self.turns += 1
        if self._make(feed, head):
            self._quiet_since = now
        elif now - self._quiet_since >= quiet_s and self.place.covered < self.place.next_seq - 1:
            self._quiet_since = now
            to = self.place.next_seq - 1
            self._add(to, pb.Frame(heartbeat=pb.Heartbeat(seq=to)).SerializeToString(), self.place.known)
        else:
            return
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    def _make(self, feed: TapeFeed, head: int) -> bool:
        """Return whether there is anything to be told."""
        place, made = self.place, False
        while place.next_seq <= head and not (made and self.wanted.pause_s):
            look = look_at(feed, self.filter, self.wanted, place, head)
            if look.kind == "frame" and look.to < place.next_seq:
                break
            place.next_seq = look.to if look.kind == "overrun" else look.to + 1
            place.mark = look.mark
            if look.body is not None:
                self._add(look.to, look.body, look.known)
            elif look.kind != "frame":
                # Nobody can go on from here: each stream finds out by itself, and says so.
                place.covered = place.next_seq - 1
            made |= look.body is not None or look.kind != "frame"
        return made

    def _add(self, to: int, body: bytes, known: tuple[int, int]) -> None:
        place = self.place
        self._frames.append(_Frame(place.covered + 1, to, body, place.known, known, place.mark))
        place.covered, place.known = to, known
        self._bytes += len(body)
        while self._bytes > SHARED_BYTES and len(self._frames) > 1:
            self._bytes -= len(self._frames.popleft().body)

    def next_for(self, place: Place) -> _Frame | None:
        """Return the shared frame that comes next for a stream that stands there."""
        newest_only = self.wanted.latest or self.wanted.pause_s
        for frame in reversed(self._frames):
            if frame.seq == place.covered + 1:
                fits = place.known[0] >= frame.needs[0] and place.known[1] >= frame.needs[1]
                return frame if fits else None
            if newest_only:
                break
        return None

    async def news(self, timeout_s: float) -> None:
        """Wait until there is more, not for ever."""
        await asyncio.wait([self._news], timeout=timeout_s)


def filter_of(wanted: Wanted) -> TapeFilter:
    """Return what picks the trades of a subscription."""
    return TapeFilter(
        None if wanted.instruments is None else list(wanted.instruments),
        None if wanted.statuses is None else list(wanted.statuses),
        stages=wanted.stages,
        why=wanted.why,
    )


def look_at(feed: TapeFeed, picks: TapeFilter, wanted: Wanted, place: Place, last: int) -> Look:
    """Return what comes next for a receiver, up to `last` where it is read from the tape."""
    first, here, left = place.covered + 1, place.next_seq, last - place.next_seq + 1
    if wanted.latest:
        return Look(*feed.newest(picks, first, here, place.known, place.mark, min(MOST_CONFLATED, left)))
    most_bytes = RATED_FRAME_BYTES if wanted.pause_s else FRAME_BYTES
    return Look(*feed.frame(picks, first, here, place.known, min(FRAME_TRADES, left), most_bytes), None)


def most_known(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Return what somebody knows who has been told both."""
    return max(a[0], b[0]), max(a[1], b[1])
