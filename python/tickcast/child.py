"""One child process kept alive: adopted if it lives already, else started, and started again when it ends.

A child runs in a session of its own, so that neither Ctrl-C nor the death of its keeper reaches it. Its life is watched
through a pidfd, which names the process and not a number that may be given away again; what is left of its session when
it ends (its workers) is killed, so that nothing holds the port or the tape against its successor.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tickcast import exits
from tickcast.errors import ConfigError, TapeBusyError, TickcastError
from tickcast.logs import LogFile
from tickcast.rundir import GatewayInfo, Lock, ProcessorInfo, read_announcement

__all__ = ["ChildFailedError", "Keeper", "Patience", "Role"]

_LOOK_S = 0.02
_STARTING_NOTE_S = 15.0


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """When to start a child again, when to give up on it, when to kill it."""

    delays_s: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
    """Pause before each start after consecutive fast failures, seconds; the last one repeats."""
    fast_s: float = 1.0
    """A child that lives this long after it was up has not failed fast, seconds."""
    most_fast: int | None = 6
    """Fast failures in a row after which to give up; None: never."""
    grace_s: float = 20.0
    """Time to end in order after SIGTERM, seconds; a processor whose brokers are away needs a dozen."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of child: how it is started and recognised."""

    name: str
    """For messages and the log file: processor, gateway."""
    command: Sequence[str]
    """How it is started."""
    env: Mapping[str, str]
    """Its whole environment."""
    lock: Path
    """The lock file that it holds while it lives."""
    info: Path
    """Where it announces that it is up."""
    kind: type[ProcessorInfo] | type[GatewayInfo]
    """What it announces."""
    differs: Callable[[ProcessorInfo | GatewayInfo], bool]
    """Whether a living one serves something else than is wanted."""
    log: Path
    """Where its output goes."""


class ChildFailedError(TickcastError):
    """A child can't be kept alive; carries the exit code that its keeper should end with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Process:
    """A living process, ours or adopted. Belongs to the event loop that made it."""

    def __init__(self, pid: int, popen: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self.adopted = popen is None
        self.exited = asyncio.Event()
        self._popen = popen
        self._pidfd = os.pidfd_open(pid)
        self._leads_group = os.getpgid(pid) == pid
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            if not self.exited.is_set():
                signal.pidfd_send_signal(self._pidfd, number)

    def kill_group(self) -> None:
        """Kill the process and what it started."""
        self.signal(signal.SIGKILL)
        if self._leads_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def exit_text(self) -> str:
        """Return how it ended, in words."""
        code = self.exit_code
        if code is None:
            return "ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives or if it was not our child."""
        return self._popen.returncode if self._popen else None

    def forget(self) -> None:
        """Stop watching; the process goes on."""
        if not self.exited.is_set():
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exited.set()
        # Before it is reaped its number can't be given to another process, so the group is still its own.
        self.kill_group()
        if self._popen:
            self._popen.wait()


class Keeper:
    """Keeps one child alive. Belongs to one event loop."""

    def __init__(self, role: Role, patience: Patience | None = None) -> None:
        self.role = role
        self.process: Process | None = None
        self.up = asyncio.Event()
        """Set once the child is up for the first time."""
        self.starts = 0
        """How often the child was started here; an adopted one was not."""
        self._patience = patience or Patience()
        self._log = LogFile(role.log)
        self._fast_failures = 0
        self._up_at: float | None = None
        self._followed = False

    async def run(self) -> None:
        """Keep the child alive until cancelled, which leaves it running.

        Raises:
            ConfigError: A living one serves another configuration.
            ChildFailedError: It refuses its configuration when it is first started, or keeps failing.
        """
        while True:
            self.process = process = await self.adopt() or await self._start()
            if await self._comes_up(process):
                self._up_at = time.monotonic()
                self.up.set()
                await process.exited.wait()
            self._note_end(process)

    async def follow(self) -> None:
        """Copy the log to stderr until cancelled; before, it is silent: one line says why a start fails."""
        self._followed = True
        await self._log.follow(sys.stderr, f"{self.role.name}: ")

    async def stop(self) -> None:
        """End the child in order, within its grace; then it is killed."""
        process = self.process
        if process is None:
            return
        process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._patience.grace_s):
                await process.exited.wait()
        except TimeoutError:
            self._say(f"pid {process.pid} did not end within {self._patience.grace_s:g} s and is killed")
        finally:
            if not process.exited.is_set():
                process.kill_group()
        await process.exited.wait()
        if self._followed:
            self._log.copy_news(sys.stderr, f"{self.role.name}: ")

    def kill(self) -> None:
        """Kill the child and what it started, at once."""
        if self.process is not None:
            self.process.kill_group()

    async def adopt(self) -> Process | None:
        """Take up a living child, if there is one, and return it.

        Raises:
            ConfigError: It serves another configuration.
            TapeBusyError: Somebody holds the lock and does not announce itself.
        """
        self.process = None
        info = await self.find()
        if info is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process = Process(info.pid)
                self._say(f"took up pid {info.pid}, which runs already")
        return self.process

    async def find(self) -> ProcessorInfo | GatewayInfo | None:
        """Return the announcement of a living child that can be adopted.

        Raises:
            ConfigError: It serves another configuration.
            TapeBusyError: Somebody holds the lock and does not announce itself.
        """
        deadline = time.monotonic() + _STARTING_NOTE_S
        while (holder := Lock.holder(self.role.lock)) is not None:
            info = read_announcement(self.role.info, self.role.kind)
            # 0: a holder that does not write its pid into the lock
            if info is not None and holder in (0, info.pid) and _lives(info.pid):
                if self.role.differs(info):
                    raise ConfigError(
                        f"a {self.role.name} with another configuration (pid {info.pid}) runs in "
                        f"{self.role.lock.parent}; end it (kill {info.pid}) or give another --run-dir"
                    )
                return info
            if time.monotonic() > deadline:  # one that is starting announces itself soon
                raise TapeBusyError(f"{self.role.lock} is held by pid {holder or '?'}, which does not announce itself")
            await asyncio.sleep(_LOOK_S)
        return None

    async def _start(self) -> Process:
        delays = self._patience.delays_s
        await asyncio.sleep(delays[min(self._fast_failures, len(delays) - 1)])
        self.starts += 1
        popen = self._spawn()
        return Process(popen.pid, popen)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.role.info.unlink(missing_ok=True)
        output = self._log.open()
        try:
            return subprocess.Popen(
                self.role.command,
                env=dict(self.role.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)

    async def _comes_up(self, process: Process) -> bool:
        """Wait until the child is up (True) or has ended (False)."""
        self._up_at = None
        note_at = time.monotonic() + _STARTING_NOTE_S
        while not process.exited.is_set():
            info = read_announcement(self.role.info, self.role.kind)
            if info is not None and info.pid == process.pid:
                return True
            if time.monotonic() > note_at:
                self._say(f"pid {process.pid} is still starting")
                note_at += _STARTING_NOTE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await process.exited.wait()
        return False

    def _note_end(self, process: Process) -> None:
        """Count an end that was not asked for, and give up if it is one too many."""
        how, last_line = process.exit_text(), self._log.last_line()
        lived_s = 0.0 if self._up_at is None else time.monotonic() - self._up_at
        self._fast_failures = self._fast_failures + 1 if lived_s < self._patience.fast_s else 0
        if not self.up.is_set() and process.exit_code == exits.WRONG_USAGE:
            raise ChildFailedError(last_line.removeprefix("tickcast: error: ") or how, exits.WRONG_USAGE)
        most = self._patience.most_fast
        if most is not None and self._fast_failures >= most:
            said = f"; it last said: {last_line}" if last_line else ""
            raise ChildFailedError(
                f"{self.role.name} failed {self._fast_failures} times in a row, the last one {how}{said}", exits.FAILED
            )
        self._say(f"pid {process.pid} {how}; starting it again")

    def _say(self, text: str) -> None:
        self._log.copy_news(sys.stderr, f"{self.role.name}: ")
        print(f"tickcast: {self.role.name}: {text}", file=sys.stderr, flush=True)


def _lives(pid: int) -> bool:
    try:
        os.close(os.pidfd_open(pid))
    except OSError:
        return False
    return True
