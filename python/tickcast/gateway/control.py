"""The gateway's line to its processor: client ticks go out, verdicts come back, on one connection for all clients.

One JSON object a line, both ways; any number of requests under way, told apart by their id. The connection is made when
it is first needed and again when it was lost; a request that was under way then is answered as "away", never repeated:
its verdict may have been given.
"""

import asyncio
import contextlib
import itertools
import logging
from pathlib import Path

import msgspec

__all__ = ["Control", "JudgeError"]

_log = logging.getLogger(__name__)
_LINE_BYTES = 1 << 20
_RETRY_S = 0.25


class JudgeError(Exception):
    """A tick could not be judged; `code` is for the client's ``error``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Problem(msgspec.Struct):
    code: str = "failed"
    message: str = ""


class _Answer(msgspec.Struct):
    id: int = 0
    trade: msgspec.Raw = msgspec.Raw(b"")
    verdict: msgspec.Raw = msgspec.Raw(b"")
    error: _Problem | None = None


class Control:
    """Asks the processor. Belongs to one event loop."""

    def __init__(self, path: Path, *, timeout_s: float = 2.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._retry_at = 0.0

    async def judge(self, payload: str) -> bytes:
        """Return the trade of a client's tick as plain JSON.

        Raises:
            JudgeError: The processor is away, too slow, or refuses.
        """
        return await self._ask({"op": "judge", "payload": payload})

    async def rejudge(self, payload: str, rules_vwap: float | None) -> bytes:
        """Return what the rules of now say of a tick, as JSON: status, reason, rule, rule set, observed value, limit.

        Args:
            payload: The tick as JSON, with its own time.
            rules_vwap: The VWAP that the rules are to see; None: there was none.

        Raises:
            JudgeError: The processor is away, too slow, or refuses.
        """
        return await self._ask({"op": "rejudge", "payload": payload, "rulesVwap": rules_vwap})

    async def _ask(self, question: dict[str, object]) -> bytes:
        request = next(self._ids)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            async with asyncio.timeout(self._timeout_s):
                writer = await self._connect()
                writer.write(msgspec.json.encode({"id": request, **question}) + b"\n")
                await writer.drain()
                return await answer
        except TimeoutError:
            raise JudgeError("timeout", f"the processor did not answer within {self._timeout_s:g} s") from None
        except OSError:
            raise JudgeError("away", "the processor is away; try again") from None
        finally:
            self._waiting.pop(request, None)
            answer.cancel()

    async def close(self) -> None:
        """Hang up; whoever waits is told that the processor is away."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None and not self._writer.is_closing():
                return self._writer
            loop = asyncio.get_running_loop()
            if loop.time() < self._retry_at:  # it was not there a moment ago: don't ask for every tick
                raise ConnectionRefusedError
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_LINE_BYTES)
            except OSError:
                self._retry_at = loop.time() + _RETRY_S
                raise
            self._writer = writer
            self._reading = loop.create_task(self._read(reader, writer))
            return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = msgspec.json.Decoder(_Answer)
        try:
            while line := await reader.readline():
                self._take(decoder.decode(line))
        except (OSError, ValueError, msgspec.MsgspecError) as problem:
            _log.warning("control socket: %s", problem)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            if self._writer is writer:
                self._writer = None
                for answer in self._waiting.values():
                    if not answer.done():
                        answer.set_exception(JudgeError("away", "the processor went away; try again"))

    def _take(self, answer: _Answer) -> None:
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.done():
            return
        if answer.error is not None:
            waiting.set_exception(JudgeError(answer.error.code, answer.error.message))
        else:
            waiting.set_result(bytes(answer.trade) or bytes(answer.verdict))
