"""``/api``: the tape over plain HTTP, for whoever asks now and then; JSON that the tape holds goes out as it is."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from tickcast._core import TapeReader
from tickcast.boards import board_of
from tickcast.gateway import metrics
from tickcast.gateway.control import JudgeError
from tickcast.gateway.health import Readiness, readiness
from tickcast.gateway.worker import Worker

__all__ = ["HANDLERS"]

_STATUS = {"UNKNOWN": 0, "VALID": 1, "INVALID": 2}
_SCAN_S = 1.5
"""An answer that took a look through the whole tape is given again for so long."""
_RECENT_S = 5
"""Seconds over which rates of instruments are averaged."""
_NO_STORE = {"cache-control": "no-store"}
Json = Response[bytes]


class Trade(msgspec.Struct, rename="camel"):
    """A trade in the plain form; enrichments are further fields."""

    trade_id: str
    instrument_id: str
    price: float | None
    volume: str
    timestamp_ns: str
    status: str
    reason: str | None = None
    vwap20m: float | None = None


class Gap(msgspec.Struct, rename={"start": "from"}):
    """Sequences that can't be had any more."""

    start: int
    to: int
    why: str


class Trades(msgspec.Struct, rename="camel"):
    """The trades `seq` to `toSeq`, none left out; `toSeq` below `seq`: there is none yet."""

    epoch: str
    oldest: int
    head: int
    seq: int
    to_seq: int
    gap: Gap | None
    trades: list[Trade]


class Snapshot(msgspec.Struct, rename="camel"):
    """Of each instrument its newest VALID trade at or before `toSeq`, with its sequence."""

    type: str
    seq: int
    to_seq: int
    trades: list[Trade]
    seqs: list[int]


class Found(msgspec.Struct, rename="camel"):
    """Trades that match, newest first; `scannedTo` is the sequence down to which the tape was looked through."""

    epoch: str
    head: int
    oldest: int
    scanned_to: int
    seqs: list[int]
    rules: list[str | None]
    trades: list[Trade]


class Count(msgspec.Struct):
    """How often."""

    name: str
    count: int


class Series(Count):
    """How often, and in each bucket of time."""

    counts: list[int]


class Rejects(msgspec.Struct, rename="camel"):
    """What the tape holds that is not VALID; `times` are the starts of the buckets, seconds since the Unix epoch."""

    oldest: int
    head: int
    trades: int
    rejects: int
    bucket_s: int
    times: list[int]
    reasons: list[Series]
    rules: list[Count]
    instruments: list[Count]


class Activity(msgspec.Struct, rename="camel"):
    """What came of each instrument in the last `windowS` seconds, in columns; instruments without trades are left out.

    `volume` and `first` (the price of the oldest) are of VALID trades, `rejects` counts all others, `perSecond` is the
    rate of VALID trades over the last five seconds. `complete`: the tape reaches back so far.
    """

    epoch: str
    head: int
    complete: bool
    window_s: int
    instruments: list[str]
    trades: list[int]
    volume: list[str]
    first: list[float | None]
    rejects: list[int]
    per_second: list[float]


class StageSpread(msgspec.Struct):
    """Microseconds; null where there is no trade."""

    p50: int | None
    p99: int | None
    max: int | None


class Stages(msgspec.Struct):
    """How long the stages of the newest trades took."""

    trades: int
    decode: StageSpread
    rules: StageSpread
    enrich: StageSpread
    tape: StageSpread


class Rejudged(msgspec.Struct, rename="camel"):
    """What the rules of now say of a trade's tick, with the VWAP that the rules saw then."""

    status: str
    reason: str | None
    rule: str | None
    rule_set: str
    observed: float | None
    limit: float | None


class Instrument(msgspec.Struct, rename="camel"):
    """An instrument on the tape."""

    code: int
    instrument_id: str
    volume_scale: int
    """Volumes are multiples of one unit divided by this."""


class Instruments(msgspec.Struct, rename="camel"):
    """The tape's instruments in order of their codes."""

    epoch: str
    instruments: list[Instrument]


class Rules(msgspec.Struct, rename="camel"):
    """The rule set in force, and how its rules do."""

    rule_set: str
    policy: str | None
    rules: list[dict[str, Any]]
    breakers: list[dict[str, Any]]


class GatewayStatus(msgspec.Struct, rename="camel"):
    """This worker's own state."""

    clients: int
    event_streams: int
    cycle_us: int
    counters: dict[str, int]


class Status(msgspec.Struct, rename="camel"):
    """Everything at a glance: can we serve, what does the processor say, how is this worker."""

    readiness: Readiness
    board: dict[str, Any]
    gateway: GatewayStatus


def _tape(worker: Worker) -> TapeReader:
    tape = worker.tape()
    if tape is None:
        raise HTTPException(status_code=503, detail="there is no tape yet: the processor has not started")
    return tape


def _json(body: bytes) -> Json:
    return Response(body, media_type=MediaType.JSON, headers=_NO_STORE)


def _made(value: object) -> Json:
    return _json(msgspec.json.encode(value))


def _spec(container: type[object]) -> dict[int, ResponseSpec]:
    """Describe a body that is passed through as bytes."""
    return {200: ResponseSpec(container, generate_examples=False, description="JSON")}


@get("/api/trades", operation_id="trades", responses=_spec(Trades))
async def trades(
    worker: NamedDependency[Worker],
    from_seq: Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=10_000)] = 1_000,
) -> Json:
    """Return trades from a sequence on; without one the newest."""
    tape = _tape(worker)
    start = from_seq if from_seq is not None else max(tape.oldest, tape.head - limit + 1)
    return _json(tape.trades(start, limit))


@get("/api/trades/{seq:int}", operation_id="trade", responses=_spec(Trade))
async def trade(worker: NamedDependency[Worker], seq: FromPath[int]) -> Json:
    """Return one trade."""
    tape = _tape(worker)
    return _json(_found(tape, seq, tape.trade(seq) if 0 < seq < 2**63 else None))


@get("/api/trades/{seq:int}/why", operation_id="why", responses=_spec(dict))
async def why(worker: NamedDependency[Worker], seq: FromPath[int]) -> Json:
    """Return why a trade was judged as it was: rule, observed value, limit, the VWAP that the rules saw, times."""
    tape = _tape(worker)
    return _json(_found(tape, seq, tape.why(seq) if 0 < seq < 2**63 else None))


@get("/api/trades/id/{trade_id:str}", operation_id="tradeById", responses=_spec(dict))
async def by_id(worker: NamedDependency[Worker], trade_id: FromPath[str]) -> Json:
    """Return the trade with that id, and why it was judged as it was."""
    tape = _tape(worker)
    seq = await asyncio.to_thread(tape.find, trade_id)
    body = None if seq is None else tape.why(seq)
    if body is None:
        raise NotFoundException(detail=f"no trade on the tape has the id {trade_id[:64]}")
    return _json(body)


@post("/api/trades/{seq:int}/rejudge", operation_id="rejudge", responses=_spec(Rejudged), status_code=200)
async def rejudge(worker: NamedDependency[Worker], seq: FromPath[int]) -> Json:
    """Judge a trade's tick by the rules of now; nothing is written, no window is entered."""
    tape = _tape(worker)
    kept = msgspec.json.decode(_found(tape, seq, tape.why(seq) if 0 < seq < 2**63 else None))
    tick = {key: kept["trade"][key] for key in ("instrumentId", "price", "volume", "timestampNs")}
    try:
        return _json(await worker.control.rejudge(msgspec.json.encode(tick).decode(), kept["rulesVwap"]))
    except JudgeError as problem:
        raise HTTPException(status_code=503, detail=str(problem)) from None


@get("/api/search", operation_id="search", responses=_spec(Found))
async def search(
    *,
    worker: NamedDependency[Worker],
    instrument: FromQuery[str | None] = None,
    status: FromQuery[Literal["VALID", "INVALID", "UNKNOWN"] | None] = None,
    reason: FromQuery[str | None] = None,
    rule: FromQuery[str | None] = None,
    before: Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1, description="only sequences below")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=10_000)] = 100,
) -> Json:
    """Return the newest trades that match."""
    tape = _tape(worker)
    number = None if status is None else _STATUS[status]

    def look() -> bytes:
        return tape.search(instrument=instrument, status=number, reason=reason, rule=rule, before=before, limit=limit)

    return _json(await asyncio.to_thread(look))


_answers: dict[tuple[object, ...], tuple[float, asyncio.Future[bytes]]] = {}
"""Looks through the whole tape, by what was asked; each is begun once and shared by all who ask meanwhile."""


async def _once(key: tuple[object, ...], look: Callable[[], bytes]) -> bytes:
    now = time.monotonic()
    for old in [known for known, (until, answer) in _answers.items() if answer.done() and until < now]:
        del _answers[old]
    if key not in _answers:
        _answers[key] = (now + _SCAN_S, asyncio.ensure_future(asyncio.to_thread(look)))
    return await asyncio.shield(_answers[key][1])


@get("/api/rejects", operation_id="rejects", responses=_spec(Rejects))
async def rejects(
    worker: NamedDependency[Worker],
    instrument: FromQuery[str | None] = None,
    reason: FromQuery[str | None] = None,
    rule: FromQuery[str | None] = None,
    buckets: Annotated[int, QueryParameter(ge=1, le=500, description="most bars of the time line")] = 60,
) -> Json:
    """Count what the tape holds that is not VALID: by reason over time, by rule, by instrument."""
    tape = _tape(worker)

    def look() -> bytes:
        return tape.rejects(instrument=instrument, reason=reason, rule=rule, buckets=buckets)

    return _json(await _once((tape.epoch, instrument, reason, rule, buckets), look))


@get("/api/activity", operation_id="activity", responses=_spec(Activity))
async def activity(
    worker: NamedDependency[Worker],
    window_s: Annotated[int, QueryParameter(ge=1, le=86_400, description="how far back, by arrival")] = 1_200,
) -> Json:
    """Add up what came of each instrument lately: trades, volume, rejects, the first price, the rate."""
    tape = _tape(worker)

    def look() -> bytes:
        now_ns = time.time_ns()
        since_ns, recent_ns = now_ns - window_s * 1_000_000_000, now_ns - _RECENT_S * 1_000_000_000
        found = msgspec.json.decode(tape.activity(since_ns, recent_ns))
        found["perSecond"] = [count / _RECENT_S for count in found.pop("recent")]
        return msgspec.json.encode(found | {"windowS": window_s})

    return _json(await _once((tape.epoch, "activity", window_s), look))


@get("/api/stages", operation_id="stages", responses=_spec(Stages))
async def stages(
    worker: NamedDependency[Worker],
    newest: Annotated[int, QueryParameter(ge=1, le=100_000, description="of how many trades")] = 2_000,
) -> Json:
    """Return how long the stages of the newest trades took: median, 99th percentile and most."""
    tape = _tape(worker)
    return _json(await asyncio.to_thread(tape.stages, newest))


def _found(tape: TapeReader, seq: int, body: bytes | None) -> bytes:
    if body is not None:
        return body
    if 0 < seq < tape.oldest:
        raise HTTPException(status_code=410, detail=f"trade {seq} is off the tape, which begins at {tape.oldest}")
    raise NotFoundException(detail=f"there is no trade {seq}; the tape goes up to {tape.head}")


@get("/api/snapshot", operation_id="snapshot", responses=_spec(Snapshot))
async def snapshot(
    worker: NamedDependency[Worker],
    instrument: Annotated[list[str] | None, QueryParameter(description="only these")] = None,
) -> Json:
    """Return the newest VALID trade of each instrument."""
    return _json(_tape(worker).snapshot(instrument))


@get("/api/instruments", operation_id="instruments", responses=_spec(Instruments))
async def instruments(worker: NamedDependency[Worker]) -> Json:
    """Return the instruments that the tape knows, with the scale of their volumes."""
    tape = _tape(worker)
    scale = board_of(tape.board()).get("volumeScale", worker.config.volume_scale)
    scale_of = scale if isinstance(scale, dict) else {}
    otherwise = scale if isinstance(scale, int) else 1
    found = [Instrument(code, name, scale_of.get(name, otherwise)) for code, name in enumerate(tape.instruments())]
    return _made(Instruments(tape.epoch, found))


@get("/api/rules", operation_id="rules", responses=_spec(Rules))
async def rules(worker: NamedDependency[Worker]) -> Json:
    """Return the rule set in force, and how its rules and breakers do."""
    tape = _tape(worker)
    board = board_of(tape.board())
    named = [{"name": name} for name in tape.rules()]
    return _made(Rules(tape.rule_set, board.get("policy"), board.get("rules", named), board.get("breakers", [])))


@get("/api/status", operation_id="status", responses=_spec(Status))
async def status(worker: NamedDependency[Worker]) -> Json:
    """Return everything at a glance."""
    tape = worker.tape()
    stats = worker.pump.stats()
    counters = {name: value for name, value in stats.items() if isinstance(value, int) and name != "cycle_us"}
    board = board_of(tape.board()) if tape is not None else {}
    gateway = GatewayStatus(worker.clients, worker.event_streams, stats["cycle_us"], counters)
    return _made(Status(readiness(worker), board, gateway))


@get("/metrics", operation_id="metrics", media_type=MediaType.TEXT, sync_to_thread=True)
def prometheus(worker: NamedDependency[Worker]) -> Response[bytes]:
    """Return the metrics of all processes in Prometheus' text format."""
    return Response(
        metrics.render(worker.run.metrics),
        headers=_NO_STORE | {"content-type": "text/plain; version=0.0.4; charset=utf-8"},
    )


HANDLERS = (
    trades,
    trade,
    why,
    by_id,
    rejudge,
    search,
    rejects,
    activity,
    stages,
    snapshot,
    instruments,
    rules,
    status,
    prometheus,
)
