"""One WebSocket client: listens to it, answers it, and sees it out.

The pump sends; here is only what asyncio is for: exactly one ``receive`` pending (a vanished client is noticed by
nothing else), requests, and the way a connection ends.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from tickcast.gateway import messages
from tickcast.gateway.codes import LOST, CloseCode
from tickcast.gateway.control import JudgeError
from tickcast.gateway.messages import Ack, Ping, RequestId, Subscribe, Tick, Unsubscribe, WrongMessageError
from tickcast.gateway.sender import Ends, Message, Pending, Send, give_up, is_under_way

if TYPE_CHECKING:
    from tickcast._core import Pump

__all__ = ["Form", "Left", "Session"]

Form = Literal["plain", "json", "bin"]
"""How a client gets its trades."""

_log = logging.getLogger(__name__)

MOST_MESSAGE_BYTES = 64 * 1024
MESSAGES_PER_S = 200.0
MESSAGES_AT_ONCE = 400.0
MOST_IGNORED = 10_000
"""Messages beyond the rate after which a client is cut off."""
MOST_TICKS_ASKED = 64
CLOSE_TIMEOUT_S = 0.5
_PUMP_TIMEOUT_S = 2.0


class Judge(Protocol):
    """Who gives verdicts on clients' ticks."""

    async def judge(self, payload: str) -> bytes:
        """Return the trade as plain JSON; `JudgeError` if there is none."""


class Left(msgspec.Struct, frozen=True):
    """The pump serves a client no more."""

    code: int
    """Close code; 0: the client has gone by itself."""
    reason: str = ""
    pending: list[Pending] = []
    """Messages that are still under way."""


class Session:
    """A connection that was accepted. Belongs to one event loop; `run` is its whole life."""

    def __init__(
        self,
        pump: "Pump",
        judge: Judge,
        send: Send,
        receive: Callable[[], Awaitable[Message]],
        *,
        form: Form,
        ends: Ends | None = None,
    ) -> None:
        self._pump = pump
        self._judge = judge
        self._send = send
        self._receive = receive
        self._plain = form == "plain"
        self._left: asyncio.Future[Left] = asyncio.get_running_loop().create_future()
        self._answers: set[asyncio.Task[None]] = set()
        self._last_answer: asyncio.Task[None] | None = None
        self._budget = _Budget()
        self.client = pump.attach(send, form=form, ends=ends)

    def leave(self, left: Left) -> None:
        """Take note that the pump serves this client no more, or that it has to go for another reason."""
        if not self._left.done():
            self._left.set_result(left)

    async def run(self) -> None:
        """Listen until either side has had enough, then end the connection."""
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait((listening, self._left), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                self._report(listening)
                give_up((await self._detach()).pending)
            else:
                await _cancel(listening)
                await self._end(self._left.result())
        finally:
            await _cancel(listening, *self._answers)

    async def _detach(self) -> Left:
        with contextlib.suppress(RuntimeError):  # the pump has stopped and hands everybody back anyhow
            self._pump.detach(self.client)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PUMP_TIMEOUT_S):
                return await asyncio.shield(self._left)
        return Left(code=0)

    def _report(self, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled() and (problem := listening.exception()) is not None:
            _log.error("client %d: listening failed", self.client, exc_info=problem)

    async def _end(self, left: Left) -> None:
        """Close, even if the client does not read: what is under way first has to be given up.

        Up to Granian 2.8.7 a close waits for the pending receive, so that has to have ended.
        """
        give_up(left.pending)
        if left.code in (CloseCode.TOO_SLOW, LOST) and left.reason:
            _log.info("client %d is cut off: %s", self.client, left.reason)
        closing = self._send({"type": "websocket.close", "code": left.code, "reason": left.reason[:120]})
        until = time.monotonic() + CLOSE_TIMEOUT_S
        while is_under_way(closing) and time.monotonic() < until:  # noqa: ASYNC110 (it tells nobody when it is done)
            await asyncio.sleep(0.005)
        give_up([closing])

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] == "websocket.receive":
                text = message.get("text")
                self._take(text if text is not None else message.get("bytes") or b"")

    def _take(self, text: str | bytes) -> None:
        if len(text) > MOST_MESSAGE_BYTES:
            self._refuse(text[:0], "too-big", f"a message has at most {MOST_MESSAGE_BYTES} bytes, this has {len(text)}")
        elif self._budget.spend():
            if self._plain:
                self._ask(text if isinstance(text, str) else text.decode("utf-8", "replace"), None)
            else:
                self._obey(text)
        elif self._budget.ignored > MOST_IGNORED:
            self.leave(Left(CloseCode.BAD_REQUEST, "far too many messages", []))
        elif self._budget.may_complain():
            self._refuse(text, "rate", f"at most {MESSAGES_PER_S:g} messages a second; the others are ignored")

    def _obey(self, text: str | bytes) -> None:
        try:
            message = messages.parse(text)
        except WrongMessageError as wrong:
            self._say(messages.error(wrong.code, str(wrong), wrong.request))
            return
        match message:
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                self._pump.unsubscribe(self.client, request=_json(message.id))
            case Tick():
                self._ask(message.payload(), message.id)
            case Ack():
                # What keeps the stream going is not counted as asking for something.
                self._budget.refund()
                self._pump.ack(self.client, message.seq)
            case Ping():
                self._say(messages.pong(bytes(message.t)))

    def _subscribe(self, message: Subscribe) -> None:
        self._pump.subscribe(
            self.client,
            request=_json(message.id),
            instruments=message.instruments,
            statuses=message.statuses(),
            from_seq=message.from_seq,
            epoch=message.epoch,
            snapshot=message.snapshot,
            latest=message.mode == "latest",
            max_rate_hz=message.max_rate_hz,
            ack_bytes=message.granted_ack_bytes(),
            stages=message.stages,
            deflate=message.compress is not None,
        )

    def _ask(self, payload: str, request: RequestId | None) -> None:
        """Have a tick judged; answers come in the order in which they were asked for."""
        if len(self._answers) >= MOST_TICKS_ASKED:
            self._refuse(payload, "busy", f"{MOST_TICKS_ASKED} ticks are being judged already", request)
            return
        task = asyncio.create_task(self._answer(payload, request, self._last_answer))
        self._last_answer = task
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, payload: str, request: RequestId | None, before: asyncio.Task[None] | None) -> None:
        try:
            trade = await self._judge.judge(payload)
        except JudgeError as problem:
            answer = self._refusal(payload, problem.code, str(problem), request)
        else:
            answer = trade.decode() if self._plain else messages.verdict(trade, request)
        if before is not None:
            await asyncio.wait((before,))
        self._say(answer)

    def _refuse(self, text: str | bytes, code: str, why: str, request: RequestId | None = None) -> None:
        self._say(self._refusal(text, code, why, request))

    def _refusal(self, text: str | bytes, code: str, why: str, request: RequestId | None) -> str:
        return messages.plain_refusal(text, why) if self._plain else messages.error(code, why, request)

    def _say(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the pump has stopped: the client is about to be closed
            self._pump.say(self.client, text)


class _Budget:
    """How many messages a client may still send: so many a second, so many at once."""

    def __init__(self) -> None:
        self.ignored = 0
        self._left = MESSAGES_AT_ONCE
        self._at = time.monotonic()
        self._complained_at = 0.0

    def spend(self) -> bool:
        """Tell whether one more is within the rate."""
        now = time.monotonic()
        self._left = min(MESSAGES_AT_ONCE, self._left + (now - self._at) * MESSAGES_PER_S)
        self._at = now
        if self._left < 1:
            self.ignored += 1
            return False
        self._left -= 1
        return True

    def refund(self) -> None:
        """Let the last one count for nothing."""
        self._left += 1

    def may_complain(self) -> bool:
        """Tell, once a second, that it is time to say so."""
        if self._at - self._complained_at < 1:
            return False
        self._complained_at = self._at
        return True


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _json(request: RequestId | None) -> str | None:
    return None if request is None else msgspec.json.encode(request).decode()
