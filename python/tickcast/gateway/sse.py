"""``/sse/marketdata``: the tape as server-sent events, for whoever has no WebSocket.

The same messages as in ``tickcast.v1.json``, one an event; the event's id is the resume token, which a browser's
`EventSource` sends back by itself as ``Last-Event-ID``. Meant for a few clients: each is served on its own, on a clock
of `TICK_S`; what one does not take stays on the tape.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import QueryParameter
from litestar.response import Stream

from tickcast._core import TapeFeed, TapeFilter
from tickcast.errors import TapeError
from tickcast.gateway.codes import CloseCode
from tickcast.gateway.worker import RETRY_AFTER_MS, Worker

__all__ = ["MOST_CLIENTS", "events"]

MOST_CLIENTS = 200
"""Of one worker; more are sent away with 503."""
MOST_INSTRUMENTS = 1_000
MOST_TRADES = 2_000
MOST_BYTES = 256 * 1024
TICK_S = 0.02

_STATUSES = ("UNKNOWN", "VALID", "INVALID")
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
StatusName = Literal["VALID", "INVALID", "UNKNOWN"]


class Token(msgspec.Struct, frozen=True):
    """Where a client was: the last sequence covered, of which epoch (empty: the present one)."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        """Return the token in an event's id, ``epoch:seq`` or a bare sequence; None: it is none of ours."""
        epoch, _, seq = text.strip().rpartition(":")
        if not (seq.isascii() and seq.isdigit()) or int(seq) >= 2**63 - 1:
            return None
        return cls(epoch, int(seq))


@get("/sse/marketdata", operation_id="events", media_type="text/event-stream")
async def events(  # noqa: PLR0917  # the framework passes them by name
    request: Request[Any, Any, Any],
    worker: NamedDependency[Worker],
    instrument: Annotated[
        list[str] | None, QueryParameter(description="only these", max_items=MOST_INSTRUMENTS)
    ] = None,
    status: Annotated[list[StatusName] | None, QueryParameter(description="only these")] = None,
    from_seq: Annotated[int | None, QueryParameter(ge=1, lt=2**63 - 1, description="first sequence wanted")] = None,
    snapshot: Annotated[bool, QueryParameter(description="newest values first, where it does not resume")] = True,
) -> Stream:
    """Stream trades as server-sent events; ``Last-Event-ID`` goes on where a client was."""
    if worker.event_streams >= MOST_CLIENTS or worker.draining:
        raise HTTPException(
            status_code=503,
            detail=f"this gateway serves {MOST_CLIENTS} event streams at most, or is going down: come back, or use "
            "/ws/marketdata",
            headers={"retry-after": "1"},
        )
    token = Token.parse(request.headers.get("last-event-id", ""))
    if token is None and from_seq is not None:
        token = Token("", from_seq - 1)
    wanted = TapeFilter(instrument, None if status is None else [_STATUSES.index(name) for name in status])
    stream = _EventStream(worker, wanted, token, snapshot=snapshot)
    return Stream(stream.run(), media_type="text/event-stream", headers=_HEADERS)


class _EventStream:
    """One client's place on the tape."""

    def __init__(self, worker: Worker, wanted: TapeFilter, token: Token | None, *, snapshot: bool) -> None:
        self._worker = worker
        self._wanted = wanted
        self._token = token
        self._snapshot = snapshot
        self._feed: TapeFeed | None = None
        self._said = time.monotonic()
        self._covered = 0
        self._cursor = 1

    async def run(self) -> AsyncIterator[bytes]:
        """Yield events until the client or the gateway goes."""
        self._worker.event_streams += 1
        try:
            yield f"retry: {RETRY_AFTER_MS}\n\n".encode()
            while not self._worker.draining:
                for event in self._next():
                    self._said = time.monotonic()
                    yield event
                if self._feed is None or self._feed.head < self._cursor:
                    await asyncio.sleep(TICK_S)
                else:
                    await asyncio.sleep(0)
            bye = {"type": "bye", "code": int(CloseCode.DRAINING), "reason": "the gateway is going down"}
            yield _event("bye", None, msgspec.json.encode(bye | {"retryAfterMs": RETRY_AFTER_MS}))
        finally:
            self._worker.event_streams -= 1

    def _next(self) -> list[bytes]:
        if self._feed is None or self._feed.superseded():
            return self._open()
        feed, heartbeat_s = self._feed, self._worker.config.web.heartbeat_ms / 1e3
        what, to, body = feed.json(self._wanted, self._covered + 1, self._cursor, MOST_TRADES, MOST_BYTES)
        if what == "hole":
            self._cursor = to + 1
            return [self._gap(self._covered + 1, to, "upstream")]
        if what == "overrun":
            return self._begin(self._covered + 1, "overrun")
        self._cursor = max(self._cursor, to + 1)
        if body is not None:
            return [self._covers(to, "trades", body)]
        if time.monotonic() - self._said >= heartbeat_s:
            seq = self._cursor - 1
            return [self._covers(seq, "heartbeat", msgspec.json.encode({"type": "heartbeat", "seq": seq}))]
        return []

    def _open(self) -> list[bytes]:
        """Go over to the tape that there is now, if there is one."""
        try:
            feed = TapeFeed.open(self._worker.run.path)
        except (TapeError, OSError):
            return []
        before, self._feed = self._feed, feed
        token = self._token if before is None else Token(before.epoch, self._covered)
        hello = {
            "type": "hello",
            "epoch": feed.epoch,
            "seq": feed.head,
            "heartbeatMs": self._worker.config.web.heartbeat_ms,
            "enrichments": [{"name": name, "unit": unit} for name, unit in feed.enrichments()],
            "server": f"tickcast/{metadata.version('tickcast')}",
        }
        return [_event("hello", None, msgspec.json.encode(hello)), *self._resume(feed, token)]

    def _resume(self, feed: TapeFeed, token: Token | None) -> list[bytes]:
        if token is None:
            return self._begin(None, "")
        if token.epoch not in ("", feed.epoch) or token.seq > feed.head:
            return self._begin(1, "epoch")
        if token.seq + 1 < feed.oldest:
            return self._begin(token.seq + 1, "overrun")
        self._covered, self._cursor = token.seq, token.seq + 1
        return []

    def _begin(self, missed_from: int | None, why: str) -> list[bytes]:
        """Start at the head, with what was missed announced and the newest values before."""
        assert self._feed is not None
        body, to = self._feed.json_snapshot(self._wanted) if self._snapshot else (b"", self._feed.head)
        self._covered, self._cursor = to, to + 1
        said = []
        if missed_from is not None and missed_from <= to:
            said.append(self._gap(missed_from, to, why))
        if self._snapshot:
            said.append(self._covers(to, "snapshot", body))
        return said

    def _gap(self, start: int, to: int, why: str) -> bytes:
        return self._covers(to, "gap", msgspec.json.encode({"type": "gap", "from": start, "to": to, "why": why}))

    def _covers(self, to: int, name: str, body: bytes) -> bytes:
        assert self._feed is not None
        self._covered = to
        return _event(name, f"{self._feed.epoch}:{to}", body)


def _event(name: str, token: str | None, body: bytes) -> bytes:
    """Return an event; JSON has no line ends."""
    head = f"event: {name}\n" if token is None else f"event: {name}\nid: {token}\n"
    return b"".join((head.encode(), b"data: ", body, b"\n\n"))
