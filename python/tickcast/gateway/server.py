"""What has to be known about the server that runs us: Granian, under which a worker is a forked process.

Two of its habits have to be helped with. Its workers outlive a main process that is killed, and hold the port. And at
SIGTERM it stops its network threads first and asks the application afterwards, when no frame goes out any more; so
clients are taken leave of before it hears of the signal. Both are details of Granian 2.8, and the contract test has
them; under another server neither does anything.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

__all__ = ["Farewell", "die_with_parent", "keep_to_one_core"]

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel end this process with the main process that forked it; elsewhere this does nothing."""
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it died before we asked
        os._exit(1)


def keep_to_one_core() -> socket.socket | None:
    """Keep all threads of this process, and those to come, on a core that no other worker on this machine keeps to.

    A frame goes through three threads: the pump, Granian's network, and one that notes that it was sent. Spread over
    cores they wake one another for each frame; on one they wake for each cohort.

    Returns:
        What claims the core until it is closed; None: all are taken, or there is but one, and nothing was done.
    """
    cores = sorted(os.sched_getaffinity(0), reverse=True) if sys.platform.startswith("linux") else []
    for core in cores if len(cores) > 1 else []:
        # An abstract name needs no file, and the kernel frees it with the process, however that ends.
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0tickcast-core-{core}")
        except OSError:
            claim.close()
            continue
        # A thread that is started meanwhile by one that was not there yet takes after it.
        while stray := _threads_off(core):
            for thread in stray:
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, {core})
        return claim
    return None


def _threads_off(core: int) -> list[int]:
    """Return the threads of this process that may run elsewhere."""
    off = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getaffinity(int(task.name)) != {core}:
                off.append(int(task.name))
    return off


class Farewell:
    """Puts `drain` before Granian's own way of stopping."""

    def __init__(self) -> None:
        self._stop: Any = None
        self._task: asyncio.Task[None] | None = None
        self._watch()

    def _watch(self) -> None:
        """Keep the event that Granian sets at a signal; it is made after the application was loaded."""
        signals = sys.modules.get("granian._signals")
        if signals is None:
            return
        original = signals.set_loop_signals

        def set_loop_signals(loop: asyncio.AbstractEventLoop) -> object:
            self._stop = original(loop)
            return self._stop

        signals.set_loop_signals = set_loop_signals  # type: ignore[attr-defined]

    def before_stopping(self, drain: Callable[[], Awaitable[None]]) -> None:
        """From now on a signal to stop drains first; a second one stops at once."""
        if self._stop is None:
            return
        loop = asyncio.get_running_loop()

        async def leave() -> None:
            with contextlib.suppress(Exception):
                await drain()
            self._stop.set()

        def on_signal() -> None:
            if self._task is None:
                self._task = loop.create_task(leave())
            else:
                self._stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
