"""What all sinks share: they hand on what the tape has, each in a thread, until it is taken or they are to end."""

import asyncio
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tickcast._core import Hold

__all__ = ["FollowingSink"]

log = logging.getLogger("tickcast.sinks")

T = TypeVar("T")

WAIT_S = 0.2
"""Longest wait for the next trade."""
PATIENT, SLOWER = 10, 8
"""After so many refusals in a row the pauses are so many times as long."""


class FollowingSink(ABC):
    """Follows the tape in a thread.

    Args:
        hold: Place on the tape.
        retry_s: Pause after what was refused, seconds.
    """

    def __init__(self, hold: Hold, retry_s: float = 1.0) -> None:
        self._hold, self._retry_s = hold, retry_s
        self._state = "live"
        self._passed_over = 0
        # Its own: a sink stays in it for ever, and the few that the loop has for everybody would soon be taken. And one
        # alone: a cancelled `run` leaves its last write going on, and what `close` writes comes behind it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sink")
        self._end = math.inf

    @property
    def lag(self) -> int:
        """Trades on the tape that have yet to be confirmed."""
        return self._hold.lag

    @property
    def lost(self) -> int:
        """Trades that are refused for good and were passed over."""
        return self._passed_over

    @property
    def state(self) -> str:
        """``live``, or why nothing can be written."""
        return self._state

    async def run(self) -> None:
        """Follow the tape until cancelled."""
        left = threading.Event()
        refused = 0
        try:
            while True:
                before = self._hold.confirmed
                await self._in_thread(partial(self._follow, left))
                refused = refused + 1 if self._hold.confirmed == before else 0
                # What stands behind the one that is refused may be written again with each attempt.
                await asyncio.sleep(self._retry_s * (1 if refused < PATIENT else SLOWER))
        finally:
            left.set()

    async def close(self, *, drain_s: float) -> None:
        """Write what is still on the tape, for at most ``drain_s`` seconds and a call under way, and let go."""
        self._end = time.monotonic() + drain_s
        while self.lag and not self._is_over:
            if not await self._in_thread(partial(self._write_some, 0.0)):
                await asyncio.sleep(0.05)
        self._end = 0.0
        if self.lag:
            log.warning("%d trades are left for the next start, on the tape: %s", self.lag, self._state)
        await self._in_thread(self._let_go)
        self._thread.shutdown(wait=False)

    @property
    def _is_ending(self) -> bool:
        """Nothing is worth gathering any more."""
        return self._end < math.inf

    @property
    def _is_over(self) -> bool:
        """Nothing is tried any more, however much is left."""
        return time.monotonic() > self._end

    @abstractmethod
    def _write_next(self, wait_s: float) -> bool:
        """Write what has come, or comes within the wait; False when that was refused. Ends soon when `_is_over`."""

    @abstractmethod
    def _let_go(self) -> None:
        """Disconnect, or close what is open."""

    def _follow(self, left: threading.Event) -> None:
        """Write until something is refused, or nobody waits for it any more.

        A call by the loop for each write took 8 % more of the processor at 1,000 ticks/s, in batches of four.
        """
        while not left.is_set() and self._write_some(WAIT_S):
            pass

    def _write_some(self, wait_s: float) -> bool:
        return self._is_over or self._write_next(wait_s)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
