"""A rule worker as its parent sees it: a fresh interpreter, a socket to it, and memory shared with it.

Not `multiprocessing`: a fork would inherit the processor's threads, locks and sockets in whatever state they are in.

Workers ask the kernel to die with their parent, which to the kernel is the *thread* that started them: the runner's
event loop must run in a thread that lives as long as the runner does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tickcast.errors import RuleError
from tickcast.rules.messages import Failed, Hello, Init, Messages, Setup, Verdict, pack
from tickcast.rules.slots import SLOT_ROWS, SLOTS, Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcast.rules.declaration import Declaration
    from tickcast.rules.messages import Order

__all__ = ["WorkerProcess"]

START_TIMEOUT_S: Final = 60.0
"""A worker that has not imported the rules by then is given up."""
_LAST_WORDS_S: Final = 0.1
_STOP_S: Final = 1.0


class WorkerProcess:
    """One worker process, from its start to its end.

    Args:
        init: What it is told first.
        on_verdict: Called with each verdict.
        on_exit: Called once, when the process is gone and whatever it had sent was received.
    """

    def __init__(
        self,
        init: Init,
        on_verdict: Callable[[WorkerProcess, Verdict], None],
        on_exit: Callable[[WorkerProcess], None],
    ) -> None:
        self._on_verdict = on_verdict
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._hello: asyncio.Future[Declaration] = self._loop.create_future()
        self._transport: Any = None
        self._connected = False
        self._exited = False
        self._gone = asyncio.Event()
        self.slots: Slots | None = None
        """The shared memory; None until the worker is ready."""
        self.names_sent = 0
        """How many instrument ids it knows."""
        self.retired = False
        """Set once the owner has no further use for it."""
        self._memory_fd = os.memfd_create("tickcast-rules")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            self._process = _spawn(theirs.fileno(), self._memory_fd)
        except OSError:
            ours.close()
            os.close(self._memory_fd)
            raise
        finally:
            theirs.close()
        self.pid: Final = self._process.pid
        self._pid_fd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pid_fd, self._process_ended)
        ours.send(pack(init))  # far below the size of the socket's empty buffer
        self._socket = ours

    async def ready(self) -> Declaration:
        """Wait until the rules are imported and the memory is mapped; return what they declare.

        Raises:
            RuleError: They can't be imported, or the process ended, or it takes longer than a minute.
        """
        messages = Messages(self._receive, self._lost, of_worker=True)
        self._connected = True
        self._transport, _ = await self._loop.create_unix_connection(lambda: messages, sock=self._socket)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                declaration = await self._hello
        except TimeoutError:
            self.kill()
            raise RuleError(f"the rules were not imported within {START_TIMEOUT_S:g} s") from None
        self.slots = Slots(self._memory_fd, declaration, SLOTS, SLOT_ROWS, create=True)
        self.tell(Setup(SLOTS, SLOT_ROWS))
        return declaration

    def tell(self, message: Setup | Order) -> None:
        """Send a message; to a worker that has died or is dying it goes nowhere, its parts come back at its end."""
        if self._connected and not self._transport.is_closing():
            self._transport.write(pack(message))

    def kill(self) -> None:
        """End the process at once, with whatever processes its rules have started."""
        if not self._exited:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # before it leads a group of its own, or just gone
                self._process.kill()

    def queued_ns(self) -> int:
        """Return how long its main thread has waited for a processor so far, ns; 0 where the kernel doesn't say."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1])
        except (OSError, IndexError):
            return 0

    async def stop(self) -> None:
        """Let the process end by itself, for a moment; then kill it."""
        self.retired = True
        if self.slots is None:
            self.kill()  # it has not judged anything yet: nothing to wait for
        elif self._transport is not None:
            self._transport.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._gone.wait()
        except TimeoutError:
            self.kill()
            await self._gone.wait()

    def close(self) -> None:
        """Give back memory and descriptors; the process has ended."""
        if self.slots is not None:
            self.slots.close()
        os.close(self._memory_fd)

    def _receive(self, message: Hello | Failed | Verdict) -> None:
        if isinstance(message, Verdict):
            self._on_verdict(self, message)
        elif not self._hello.done():
            if isinstance(message, Hello):
                self._hello.set_result(message.declaration)
            else:
                self._hello.set_exception(RuleError(message.message))

    def _process_ended(self) -> None:
        self._loop.remove_reader(self._pid_fd)
        os.close(self._pid_fd)
        self._process.wait()
        self._exited = True
        if self._connected:
            # Its last words are received when the socket ends; a process it left behind may hold the other end open.
            self._loop.call_later(_LAST_WORDS_S, self._end)
        else:
            self._socket.close()
            self._end()

    def _lost(self) -> None:
        self._connected = False
        if self._exited:
            self._end()
        elif not self.retired:
            self.kill()  # most often it is dying already; one that only lost its socket can't be asked any more

    def _end(self) -> None:
        if self._gone.is_set():
            return
        self._gone.set()
        if self._transport is not None:
            self._transport.abort()
        if not self._hello.done():
            code = self._process.returncode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._hello.set_exception(RuleError(f"the process importing the rules {how}"))
            self._hello.exception()  # looked at: nobody need wait for it
        self._on_exit(self)


def _spawn(socket_fd: int, memory_fd: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    # W workers are the parallelism: a pool of threads in each would fight over the same cores.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    environment.setdefault("OMP_NUM_THREADS", "1")
    arguments = [sys.executable, "-m", "tickcast.rules.worker", str(socket_fd), str(memory_fd), str(os.getpid())]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=2,  # what rules print must not get between the processor's own lines
        pass_fds=(socket_fd, memory_fd),
        start_new_session=True,  # Ctrl-C is the parent's business
        env=environment,
    )
