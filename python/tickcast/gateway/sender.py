"""Getting at the server's own ``send``, and a stand-in where there is none that the pump can use.

Granian's ``send`` starts at once, without being awaited, from any thread; what it returns says when the frame is in the
kernel (``done``) and can be given up (``cancel``). That is a detail of Granian, not of ASGI, so it is checked on the
first message of every connection, and every other server is served through `AwaitedSend`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

__all__ = ["AwaitedSend", "Ends", "Message", "Pending", "Send", "ends", "give_up", "is_under_way", "starts_unawaited"]

Message = dict[str, Any]
Send = Callable[[Message], Any]
"""ASGI's ``send``; what it returns depends on the server."""

Ends = tuple[str, int, int]
"""Of a TCP connection: the client's address and port, and the port of ours."""

_log = logging.getLogger(__name__)
_told: set[str] = set()


class Pending(Protocol):
    """A message under way."""

    def done(self) -> bool:
        """Tell whether it is in the kernel, or given up."""

    def cancel(self) -> object:
        """Give it up."""


def is_under_way(pending: object) -> bool:
    """Tell whether a message has neither been sent nor given up.

    What Granian returns of a connection that has ended has neither ``done`` nor ``cancel``.
    """
    done = getattr(pending, "done", None)
    return done is not None and not done()


def give_up(pending: Iterable[object]) -> None:
    """Cancel what is still under way."""
    for message in pending:
        if is_under_way(message):
            message.cancel()  # type: ignore[attr-defined]


def starts_unawaited(returned: object) -> bool:
    """Tell whether what ``send`` returned is Granian's: a message under way that any thread may have begun."""
    kind = type(returned)
    if not kind.__module__.startswith("granian"):
        return False
    if callable(getattr(returned, "done", None)) and callable(getattr(returned, "cancel", None)):
        return True
    if kind.__name__ not in _told:
        _told.add(kind.__name__)
        _log.warning("this Granian's send returns %s without done and cancel: frames are awaited one by one", kind)
    return False


def ends(scope: Mapping[str, Any]) -> Ends | None:
    """Return which connection a WebSocket has to itself and to which frames can be written as they are.

    None where there is no such: TLS, HTTP/2, a Unix socket, or a proxy's word for the client instead of the socket's.
    """
    client, server = scope.get("client"), scope.get("server")
    if scope.get("scheme") != "ws" or scope.get("http_version") != "1.1" or not client or not server:
        return None
    # Granian gives ports as text.
    theirs, ours = int(client[1] or 0), int(server[1] or 0)
    return (client[0], theirs, ours) if theirs and ours else None


class AwaitedSend:
    """Stands in for Granian's ``send``: queues messages from any thread, and one task awaits them in order.

    The task belongs to whoever made this, and ends in `close`.
    """

    def __init__(self, send: Callable[[Message], Awaitable[object]]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Message, _Promise]] = deque()
        self._news = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    def __call__(self, message: Message) -> Pending:
        """Queue a message; it is under way until it was awaited."""
        promise = _Promise()
        self._queue.append((message, promise))
        self._loop.call_soon_threadsafe(self._news.set)
        return promise

    async def close(self) -> None:
        """Give up what waits."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for _, promise in self._queue:
            promise.cancel()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                message, promise = self._queue.popleft()
                if promise.done():
                    continue
                try:
                    await self._send(message)
                except Exception as error:  # the connection is gone: its receive says so too
                    _log.debug("send failed: %r", error)
                finally:
                    promise.cancel()


class _Promise:
    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def cancel(self) -> None:
        self._done = True
