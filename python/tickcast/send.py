"""``tickcast send``: ticks of a file to a running tickcast, and its verdicts to stdout."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import itertools
import sys
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import websockets

from tickcast import urls
from tickcast.client.types import STATUS_NAMES
from tickcast.client.ws import SUBPROTOCOL, address
from tickcast.errors import ConfigError, LinkLostError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["read_ticks", "send"]

TICKS_PER_S = 190.0
"""What a gateway takes from one client, less a little."""
IN_FLIGHT = 48
"""Ticks of one client that a gateway judges at once, less a little."""
_GZIP = b"\x1f\x8b"

Tick = dict[str, Any]
"""``instrumentId``, ``price``, ``volume`` and perhaps ``timestampNs``."""


async def send(url: str, path: str, *, token: str | None = None) -> int:
    """Send the ticks of a file (``-``: stdin), print the verdicts as JSON lines; return how many lines were no ticks.

    Raises:
        ConfigError: The URL is wrong.
        LinkLostError: The server can't be reached, or leaves.
        OSError: The file can't be read.
    """
    counts: Counter[str] = Counter()

    def unreadable(line: int, why: str) -> None:
        counts["unreadable"] += 1
        print(f"tickcast: line {line}: {why}", file=sys.stderr)

    reading = read_ticks(path, unreadable)
    # The first one before anything is opened: a file of the wrong kind is told as such.
    first = await asyncio.to_thread(next, reading, None)
    ticks = _one_by_one(first, reading)
    answers = _through_grpc(url, ticks, token) if url.startswith("grpc:") else _through_gateway(url, ticks, token)
    async with aclosing(answers) as trades:
        async for trade in trades:
            counts[trade["status"]] += 1
            sys.stdout.write(msgspec.json.encode(trade).decode() + "\n")
            sys.stdout.flush()
    said = ", ".join(f"{name} {counts[name]}" for name in (*STATUS_NAMES[1:], STATUS_NAMES[0]) if counts[name])
    print(f"tickcast: {sum(counts[name] for name in STATUS_NAMES)} verdicts: {said or 'none'}", file=sys.stderr)
    return counts["unreadable"]


async def _one_by_one(first: Tick | None, rest: Iterator[Tick]) -> AsyncGenerator[Tick, None]:
    """Yield ticks as they come; stdin may take its time."""
    tick = first
    while tick is not None:
        yield tick
        tick = await asyncio.to_thread(next, rest, None)


def read_ticks(path: str, unreadable: Callable[[int, str], None]) -> Iterator[Tick]:
    """Yield the ticks of a CSV file or of JSON lines, as they are read.

    Args:
        path: The file, gzip'd or not; ``-``: stdin.
        unreadable: Told the number of a line that holds no tick, and why.

    Raises:
        ConfigError: A CSV file has another header.
        OSError: The file can't be read.
    """
    with sys.stdin.buffer if path == "-" else Path(path).open("rb") as raw:
        buffered = cast("io.BufferedReader", raw)
        packed = buffered.peek(2)[:2] == _GZIP
        plain = cast("io.BufferedReader", gzip.GzipFile(fileobj=buffered)) if packed else buffered
        lines = io.TextIOWrapper(plain, "utf-8", "replace")
        first = lines.readline()
        if first.lstrip().startswith(("{", "[")):
            yield from _json_lines(first, lines, unreadable)
        elif first:
            yield from _csv_lines(first, lines, unreadable)


def _json_lines(first: str, rest: io.TextIOWrapper, unreadable: Callable[[int, str], None]) -> Iterator[Tick]:
    for number, line in enumerate(itertools.chain((first,), rest), 1):
        yield from _json_line(number, line, unreadable)


def _json_line(number: int, line: str, unreadable: Callable[[int, str], None]) -> Iterator[Tick]:
    if not line.strip():
        return
    try:
        said = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        unreadable(number, f"not JSON: {error}")
        return
    for tick in said if isinstance(said, list) else [said]:
        if isinstance(tick, dict):
            yield tick
        else:
            unreadable(number, "not a tick: a JSON object is needed")


def _csv_lines(first: str, rest: io.TextIOWrapper, unreadable: Callable[[int, str], None]) -> Iterator[Tick]:
    header = next(csv.reader([first]))
    wanted = ["instrument_id", "price", "volume"]
    if header[:3] != wanted or header[3:] not in ([], ["timestamp_ns"]):
        raise ConfigError(f"the file's first line must be {','.join(wanted)},timestamp_ns, was {first.strip()!r}")
    for number, row in enumerate(csv.reader(rest), 2):
        try:
            tick: Tick = {"instrumentId": row[0], "price": float(row[1]), "volume": int(row[2])}
            if len(row) > 3:
                tick["timestampNs"] = int(row[3])
        except IndexError:
            unreadable(number, f"has {len(row)} fields, needs instrument_id,price,volume: {','.join(row)!r:.100}")
            continue
        except ValueError as error:
            unreadable(number, f"price must be a number, volume and timestamp_ns whole ones: {error}")
            continue
        yield tick


async def _through_gateway(
    url: str, ticks: AsyncGenerator[Tick, None], token: str | None
) -> AsyncGenerator[Tick, None]:
    """Ask a gateway for verdicts, in order, as fast as it allows."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with websockets.connect(
            address(url),
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
            additional_headers=headers,
            compression=None,
        ) as socket:
            room = asyncio.Semaphore(IN_FLIGHT)
            asked: asyncio.Queue[int | None] = asyncio.Queue()

            async def ask() -> None:
                loop = asyncio.get_running_loop()
                due, number = loop.time(), 0
                async for tick in ticks:
                    number += 1
                    await room.acquire()
                    due = max(due + 1 / TICKS_PER_S, loop.time())
                    await asyncio.sleep(due - loop.time())
                    await asked.put(number)
                    await socket.send(
                        msgspec.json.encode({"type": "tick", "id": number, **_without_time(tick)}).decode()
                    )
                await asked.put(None)

            asking = asyncio.create_task(ask())
            try:
                # Verdicts may come in another order than their ticks.
                early: dict[int, Tick] = {}
                while (number := await asked.get()) is not None:
                    while number not in early:
                        said = msgspec.json.decode(await socket.recv())
                        if said["type"] == "verdict":
                            early[said["id"]] = said["trade"]
                        elif said["type"] == "error":
                            raise LinkLostError(f"the gateway says: {said['code']} {said['message']}")
                        else:
                            continue
                        room.release()
                    yield early.pop(number)
                await asking
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
    except (OSError, websockets.WebSocketException) as error:
        raise LinkLostError(f"{address(url)}: {error}") from None


def _without_time(tick: Tick) -> Tick:
    """Return what a gateway judges of a tick: the time is the gateway's."""
    return {key: tick[key] for key in ("instrumentId", "price", "volume") if key in tick}


async def _through_grpc(url: str, ticks: AsyncGenerator[Tick, None], token: str | None) -> AsyncGenerator[Tick, None]:
    """Ask a processor for verdicts, on a stream with windows of its own."""
    import grpc  # noqa: PLC0415 (takes its time to import)

    from tickcast.rpc.contract import message_class  # noqa: PLC0415
    from tickcast.rpc.link import TapeLink, target_of  # noqa: PLC0415

    parsed = urls.parse_source(url)
    assert isinstance(parsed, urls.Grpc)
    raw_tick = message_class("marketdata.RawMarketTick")
    trade_of = message_class("marketdata.ValidatedTrade").FromString

    async def messages() -> AsyncGenerator[bytes, None]:
        async for tick in ticks:
            yield _proto(raw_tick, tick)

    async with TapeLink(target_of(parsed, token)) as link:
        call = link.stream("/marketdata.MarketDataProcessor/ProcessStream", messages())
        try:
            async for answer in call:
                trade = trade_of(answer)
                fields = {
                    "tradeId": trade.trade_id,
                    "instrumentId": trade.instrument_id,
                    "price": trade.price,
                    "volume": str(trade.volume),
                    "timestampNs": str(trade.timestamp_ns),
                    "status": STATUS_NAMES[trade.status],
                }
                if trade.HasField("reason"):
                    fields["reason"] = trade.reason
                if trade.vwap_20m:
                    fields["vwap20m"] = trade.vwap_20m
                yield fields
        except grpc.aio.AioRpcError as error:
            raise LinkLostError(f"{parsed.address}: {error.code().name} {error.details() or ''}".rstrip()) from None


def _proto(raw_tick: Any, tick: Tick) -> bytes:  # noqa: ANN401 (made at run time)
    """Return a tick as the contract has it. What is missing or of a wrong type is left out, and judged as that."""
    kinds: dict[str, tuple[str, type]] = {
        "instrument_id": ("instrumentId", str),
        "price": ("price", float),
        "volume": ("volume", int),
        "timestamp_ns": ("timestampNs", int),
    }
    fields: dict[str, Any] = {}
    for name, (key, kind) in kinds.items():
        try:
            fields[name] = kind(tick[key])
        except (KeyError, TypeError, ValueError):
            continue
    try:
        message: bytes = raw_tick(**fields).SerializeToString()
    except ValueError:  # beyond int64
        message = raw_tick(instrument_id=fields.get("instrument_id", "")).SerializeToString()
    return message
