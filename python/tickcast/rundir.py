"""The run directory: one place for the tape, locks, sockets and announcements of one running tickcast.

A process that must be alone holds a lock file (``flock``, so the kernel frees it whatever becomes of the process) and,
once it is up, announces itself in a JSON file beside it. Who finds the announcement checks pid and lock before it
believes it. Lock files are never removed: a lock on a removed file would guard nothing.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from tickcast.errors import ConfigError

__all__ = ["GatewayInfo", "Lock", "ProcessorInfo", "RunDir", "announce", "read_announcement"]

_PROBE_PATIENCE_S = 0.25
"""A probe holds the lock for some microseconds: whoever wants it asks again for this long."""


class ProcessorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """``processor.json``, written by a processor that is up."""

    pid: int
    """Its process."""
    config_hash: str
    """`tickcast.config.processor_hash` of its configuration."""
    started_ns: int
    """When it started, ns since the Unix epoch."""
    grpc: str = ""
    """Address that its gRPC server listens on, ``host:port``."""


class GatewayInfo(msgspec.Struct, frozen=True, kw_only=True):
    """``gateway.json``, written by a gateway's main process that is up."""

    pid: int
    """Its main process."""
    host: str
    """Address it listens on."""
    port: int
    """TCP port it listens on."""
    config_hash: str
    """`tickcast.config.gateway_hash` of its configuration."""


Info = TypeVar("Info", bound=ProcessorInfo | GatewayInfo)


class RunDir:
    """The paths of a run directory."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.supervisor_lock = self.path / "supervisor.lock"
        self.keepers_lock = self.path / "keepers.lock"
        self.processor_lock = self.path / "processor.lock"
        self.processor_info = self.path / "processor.json"
        self.gateway_lock = self.path / "gateway.lock"
        self.gateway_info = self.path / "gateway.json"
        self.control_socket = self.path / "control.sock"
        self.ownership = self.path / "ownership.json"
        self.windows = self.path / "windows.ckpt"
        self.metrics = self.path / "metrics"
        self.log = self.path / "log"

    @classmethod
    def create(cls, path: str | Path) -> "RunDir":
        """Return the directory, made for this user alone if it is not there.

        Raises:
            ConfigError: It can't be made, is no directory, or others may write to it or to the directory made for it.
        """
        run = cls(path)
        try:
            for directory in [*_missing(run.path), run.path]:
                directory.mkdir(mode=0o700, exist_ok=True)
            _check_private(run.path)
            run.log.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run_dir: can't use {run.path}: {error.strerror}") from None
        return run


class Lock:
    """A held lock file with its holder's pid inside; `release` or the end of the process frees it.

    One thread at a time. A forked child shares the lock: hand work to processes that exec.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, *, patience_s: float = _PROBE_PATIENCE_S) -> "Lock | None":
        """Take the lock, or return None if another process holds it still after `patience_s` (blocking)."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_s
        while not _flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    @staticmethod
    def holder(path: Path) -> int | None:
        """Return the pid of the process that holds the lock (0 if it does not say), or None if it is free."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _flock(descriptor, fcntl.LOCK_SH):
                return None
            text = os.pread(descriptor, 32, 0).strip()
            return int(text) if text.isdigit() else 0
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Free the lock; again is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Presence:
    """A shared hold on a file that tells the last one to leave.

    Converting a ``flock`` drops the shared hold first, so of several that leave at once one at least sees itself alone.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Let go; tell whether nobody else is there."""
        try:
            return _flock(self._descriptor, fcntl.LOCK_EX)
        finally:
            os.close(self._descriptor)


def announce(path: Path, info: ProcessorInfo | GatewayInfo) -> None:
    """Write an announcement, whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.encode(info) + b"\n")
    draft.replace(path)


def read_announcement(path: Path, kind: type[Info]) -> Info | None:
    """Return what a process announced, None if nothing legible is there. Says nothing of whether it still lives."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return None


def _flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _missing(path: Path) -> Iterator[Path]:
    """Yield the parents that are not there, outermost first: they become private too."""
    yield from reversed([parent for parent in path.parents if not parent.exists()])


def _check_private(path: Path) -> None:
    """Refuse a directory in which another user could have laid, or could lay, files that we trust."""
    for directory in (path, path.parent):
        found = directory.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"run_dir: {directory} is no directory")
        # A parent such as /tmp belongs to root and is sticky: nobody else can replace what is ours in it.
        owners = (os.getuid(),) if directory == path else (os.getuid(), 0)
        if found.st_uid not in owners:
            raise ConfigError(f"run_dir: {directory} belongs to another user (uid {found.st_uid})")
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            raise ConfigError(f"run_dir: others may write to {directory}; chmod go-w {directory}")
