"""``/health``: the process lives. ``/health/ready``: it can serve; what is wrong behind it is told in the body."""

import time
from typing import Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType

from tickcast.boards import board_of
from tickcast.gateway.worker import Worker

__all__ = ["Readiness", "health", "readiness", "ready"]

STALE_NS = 2_000_000_000
"""A processor that has not touched its board for so long is taken for dead."""
_NO_STORE = {"cache-control": "no-store"}


class Readiness(msgspec.Struct, rename="camel", kw_only=True):
    """Whether this worker can serve, and what is wrong behind it."""

    ready: bool
    """Whether the answer is 200."""
    reason: str | None = None
    """Why it is not."""
    epoch: str | None = None
    """Epoch of the tape."""
    seq: int = 0
    """Head of the tape."""
    processor: str = "away"
    """``live``, ``stale`` (no sign of life for two seconds) or ``away`` (never seen)."""
    source: dict[str, Any] | None = None
    """State of the source, as the processor last said."""
    breakers: list[dict[str, Any]] = []
    """Circuit breakers that are not closed."""


@get("/health", media_type=MediaType.JSON, operation_id="health")
async def health() -> Response[dict[str, str]]:
    """Tell that the process lives."""
    return Response({"status": "ok"}, headers=_NO_STORE)


@get("/health/ready", media_type=MediaType.JSON, operation_id="ready")
async def ready(worker: NamedDependency[Worker]) -> Response[Readiness]:
    """Tell whether this worker can serve: 200, or 503 and why."""
    state = readiness(worker)
    return Response(state, status_code=200 if state.ready else 503, headers=_NO_STORE)


def readiness(worker: Worker) -> Readiness:
    """Return what ``/health/ready`` says."""
    tape = worker.tape()
    if tape is None:
        return Readiness(ready=False, reason="there is no tape yet")
    state = Readiness(ready=not worker.draining, epoch=tape.epoch, seq=tape.head)
    if worker.draining:
        state.reason = "the gateway is going down"
    board = board_of(tape.board())
    if board:
        age_ns = time.time_ns() - int(board.get("heartbeatNs", 0))
        state.processor = "stale" if age_ns > STALE_NS else "live"
        state.source = board.get("source")
        state.breakers = [b for b in board.get("breakers", []) if b.get("state") != "closed"]
    elif tape.writer_alive():
        state.processor = "live"
    if worker.config.ready.require_fresh and state.ready:
        state.reason = _not_fresh(state)
        state.ready = state.reason is None
    return state


def _not_fresh(state: Readiness) -> str | None:
    if state.processor != "live":
        return f"the processor is {state.processor}"
    source = (state.source or {}).get("state", "live")
    if source not in ("live", "ended"):
        return f"the source is {source}"
    return f"{len(state.breakers)} breakers are open" if state.breakers else None
