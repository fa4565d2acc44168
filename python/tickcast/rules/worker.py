"""A rule worker: ``python -m tickcast.rules.worker <socket fd> <memory fd> <parent pid>``, started by the processor.

Imports the rules, then judges what it finds in its slots until the socket closes. It never outlives its parent, not
even hanging in a rule: the kernel kills it.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Final

import uvloop

from tickcast.errors import RuleError
from tickcast.rules.judge import Judge
from tickcast.rules.loading import load
from tickcast.rules.messages import Failed, Hello, Init, Messages, Order, Setup, Verdict, pack, unpack_from_parent
from tickcast.rules.notes import BEAT, Notes
from tickcast.rules.run import Run, Work
from tickcast.rules.slots import Slots

if TYPE_CHECKING:
    from tickcast.rules.ruleset import RuleSet

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1
_BEATS_PER_DEADLINE: Final = 5


def main() -> None:
    """Run the worker."""
    socket_fd, memory_fd, parent_pid = map(int, sys.argv[1:4])
    _die_with(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    faulthandler.enable()
    connection = socket.socket(fileno=socket_fd)
    init = _first_message(connection)
    if init.nice:
        os.nice(init.nice)
    sys.path[:] = init.path
    try:
        rule_set = load(init.spec)
        hello = pack(Hello(rule_set.declaration()))
    except RuleError as error:
        connection.sendall(pack(Failed(str(error))))
        return
    try:
        connection.sendall(hello)
    except BrokenPipeError:
        return  # not wanted any more
    # What lives by now lives for ever: collections leave it alone, and come rarely for what rules leave behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(connection, memory_fd, rule_set, init))


class _Worker:
    """Judges orders as they come."""

    def __init__(self, memory_fd: int, rule_set: RuleSet, init: Init) -> None:
        self._memory_fd = memory_fd
        self._rule_set = rule_set
        self._init = init
        self._slots: Slots | None = None
        self._judge: Judge | None = None
        self._names: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating = False
        self._loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()
        self.messages: Final = Messages(self.receive, self.closed.set, of_worker=False)

    def receive(self, message: Setup | Order) -> None:
        """Take a message of the parent."""
        if isinstance(message, Setup):
            self._set_up(message)
            return
        slots, judge = self._slots, self._judge
        assert slots is not None  # the parent sends Setup first
        assert judge is not None
        self._names += message.names
        work = Work(
            slots.get(message.slot, message.rows, self._names),
            message.task,
            message.blocked,
            message.isolate,
            message.only,
            slots.answer(message.slot, message.rows),
        )
        if judge.asynchronous:
            task = self._loop.create_task(self._judge_async(judge, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if not self._beating:
                self._beat()
        else:
            self._answer(judge.judge_now(work))

    def _set_up(self, setup: Setup) -> None:
        declaration = self._rule_set.declaration()
        self._slots = Slots(self._memory_fd, declaration, setup.slots, setup.rows, create=False)
        self._judge = Judge(
            self._rule_set,
            deadline_s=self._init.deadline_s,
            fail_open=self._init.fail_open,
            concurrency=self._init.concurrency,
            notes=Notes(self._slots.words, len(declaration.rules)),
        )

    async def _judge_async(self, judge: Judge, work: Work) -> None:
        self._answer(await judge.judge(work))

    def _answer(self, run: Run) -> None:
        verdicts = run.finish()
        texts = [text for text, free in zip(verdicts.reasons, verdicts.is_text, strict=True) if free]
        self.messages.send(Verdict(run.task, texts, run.late))

    def _beat(self) -> None:
        """Show that the event loop turns, as long as there is something to do."""
        assert self._slots is not None
        self._slots.words[BEAT] = time.monotonic_ns()
        self._beating = bool(self._tasks)
        if self._beating:
            self._loop.call_later(self._init.deadline_s / _BEATS_PER_DEADLINE, self._beat)


async def _serve(connection: socket.socket, memory_fd: int, rule_set: RuleSet, init: Init) -> None:
    worker = _Worker(memory_fd, rule_set, init)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: worker.messages, sock=connection)
    await worker.closed.wait()


def _first_message(connection: socket.socket) -> Init:
    with connection.dup() as reading, reading.makefile("rb", buffering=0) as stream:
        size = struct.unpack("<I", _exactly(stream, 4))[0]
        message = unpack_from_parent(_exactly(stream, size))
    assert isinstance(message, Init)  # the parent says it first
    return message


def _exactly(stream: socket.SocketIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise SystemExit(0)  # the parent is gone
        data += more
    return data


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before that
        raise SystemExit(0)


if __name__ == "__main__":
    main()
