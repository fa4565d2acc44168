"""The processor's control socket: gateways forward their clients' ticks here and get verdicts back.

One JSON object a line, both ways; requests carry an ``id`` that the answer repeats, so many can be in flight.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

__all__ = ["ControlServer", "JudgeAwayError"]

MAX_LINE_BYTES = 256 * 1024
MAX_IN_FLIGHT = 256
"""Requests of one connection being judged at a time; the next one waits in the kernel."""


class JudgeAwayError(Exception):
    """Nobody can judge a tick now."""


class Request(msgspec.Struct):
    """What a gateway asks: ``judge`` a payload, ``rejudge`` it as it was, or ``ping``."""

    id: int
    op: str
    payload: str = ""
    rules_vwap: float | None = msgspec.field(default=None, name="rulesVwap")
    """VWAP that the rules are to see at ``rejudge``."""


class ControlServer:
    """Serves the control socket of one processor."""

    def __init__(
        self,
        path: Path,
        judge: Callable[[bytes], Awaitable[list[str]]],
        rejudge: Callable[[bytes, float | None], Awaitable[msgspec.Struct]] | None = None,
    ) -> None:
        self._path = path
        self._judge = judge
        self._rejudge = rejudge
        self._decoder = msgspec.json.Decoder(Request)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. The processor's lock is held, so a socket left behind is nobody's.

        Raises:
            OSError: The socket can't be bound.
        """
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await asyncio.start_unix_server(self._connected, str(self._path), limit=MAX_LINE_BYTES)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            async with asyncio.TaskGroup() as answers:
                slots = asyncio.Semaphore(MAX_IN_FLIGHT)
                while line := await reader.readline():
                    await slots.acquire()
                    answers.create_task(self._answer(line, writer, slots))
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            pass  # the gateway is gone or sent a line without end: it connects again
        finally:
            if task is not None:
                self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter, slots: asyncio.Semaphore) -> None:
        try:
            answer = await self._answer_to(line)
        finally:
            slots.release()
        with contextlib.suppress(ConnectionError):
            writer.write(answer + b"\n")
            await writer.drain()

    async def _answer_to(self, line: bytes) -> bytes:
        try:
            request = self._decoder.decode(line)
        except msgspec.DecodeError as error:
            return error_line(0, "bad-request", str(error))
        if request.op == "ping":
            return b'{"id":%d}' % request.id
        if request.op == "rejudge":
            return await self._rejudged(request)
        if request.op == "judge":
            return await self._judged(request)
        return error_line(request.id, "bad-request", f"op is {request.op!r}, must be judge, rejudge or ping")

    async def _judged(self, request: Request) -> bytes:
        try:
            trades = await self._judge(request.payload.encode())
        except JudgeAwayError as error:
            return error_line(request.id, "away", str(error))
        if len(trades) != 1:
            return error_line(request.id, "bad-request", f"the message holds {len(trades)} ticks, must be one")
        return b'{"id":%d,"trade":%b}' % (request.id, trades[0].encode())

    async def _rejudged(self, request: Request) -> bytes:
        if self._rejudge is None:
            return error_line(request.id, "unsupported", "this processor has no rules of its own to ask")
        try:
            verdict = await self._rejudge(request.payload.encode(), request.rules_vwap)
        except ValueError as error:
            return error_line(request.id, "bad-request", str(error))
        return b'{"id":%d,"verdict":%b}' % (request.id, msgspec.json.encode(verdict))


def error_line(request_id: int, code: str, message: str) -> bytes:
    """Return an error answer."""
    return msgspec.json.encode({"id": request_id, "error": {"code": code, "message": message}})
