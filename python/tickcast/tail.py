"""``tickcast tail``: follows the tape, and takes it up again after a lost connection.

A gateway speaks ``tickcast.v1.json``; a processor (``grpc://``) is asked through `tickcast.client`.

What it has seen is told by the ranges of sequences that frames and gaps state, not by the trades in them, so a filtered
subscription resumes as exactly as a full one. Close codes from 4500 on say "don't come back"; everything else is tried
again, with full-jitter pauses.
"""

import asyncio
import os
import random
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import websockets
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from tickcast.config import Config
from tickcast.errors import ConfigError, TickcastError
from tickcast.rundir import GatewayInfo, RunDir, read_announcement
from tickcast.urls import parse_source

__all__ = ["Message", "Subscription", "follow", "print_lines", "show_table", "socket_url"]

Message = dict[str, Any]
"""A message of the server, as ``docs/protocol.md`` describes it."""

SUBPROTOCOL = "tickcast.v1.json"
SOCKET_PATH = "/ws/marketdata"
DONT_COME_BACK = range(4500, 5000)
"""Close codes after which a client stays away (``docs/protocol.md``)."""

_CLOSE_S = 1.0
"""Longest wait for the gateway's answer to the end: it lies behind all that is still on its way."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_STYLES = {"VALID": "green", "INVALID": "red", "UNKNOWN": "yellow"}


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow."""

    url: str
    """WebSocket address."""
    instruments: tuple[str, ...] = ()
    """Only these; empty: all."""
    statuses: tuple[str, ...] = ()
    """Only these; empty: all."""
    from_seq: int | None = None
    """First sequence wanted; None: live from now on."""
    snapshot: bool = False
    """Begin with the newest VALID trade of each instrument."""
    token: str | None = None
    """Bearer token, where the gateway asks for one."""


class _Place:
    """How far the tape has been seen."""

    def __init__(self, from_seq: int | None) -> None:
        self.epoch: str | None = None
        self.next_seq = from_seq

    def hello(self, message: Message) -> None:
        if self.epoch not in (None, message["epoch"]):
            self.next_seq = None  # a new tape counts from 1 again
        self.epoch = message["epoch"]

    def seen(self, message: Message) -> None:
        last = message.get("toSeq", message.get("to"))
        if last is not None:
            self.next_seq = int(last) + 1


def socket_url(url: str | None, config: Config) -> str:
    """Return the WebSocket address of a gateway.

    Args:
        url: An ``http``, ``https``, ``ws``, ``wss`` or ``grpc`` address, or host:port; None: the gateway of the run
            directory.
        config: Names run directory, host and port.

    Raises:
        ConfigError: The address is none of these.
    """
    if url is None:
        info = read_announcement(RunDir(config.run_dir).gateway_info, GatewayInfo)
        host, port = (info.host, info.port) if info else (config.web.host, config.web.port)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        url = f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
    if url.startswith("grpc:"):
        parse_source(url)
        return url
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ConfigError(f"URL: must be an address such as http://127.0.0.1:3000, was {url!r}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") or SOCKET_PATH, parts.query, ""))


async def follow(subscription: Subscription) -> AsyncGenerator[Message, None]:
    """Yield the gateway's messages for ever; ``{"type": "lost"}`` says that the connection broke.

    Raises:
        TickcastError: The first connection is refused, or the gateway says not to come back.
        OSError: Nothing answers the first connection.
    """
    if subscription.url.startswith("grpc:"):
        async with aclosing(_follow_processor(subscription)) as said:
            async for message in said:
                yield message
        return
    place = _Place(subscription.from_seq)
    pause_s, connected = _FIRST_PAUSE_S, False
    while True:
        retry_after_s = 0.0
        try:
            async with aclosing(_connection(subscription, place)) as messages:
                async for message in messages:
                    connected, pause_s = True, _FIRST_PAUSE_S
                    retry_after_s = message.get("retryAfterMs", 0) / 1_000
                    yield message
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in DONT_COME_BACK:
                raise TickcastError(
                    f"the gateway says not to come back: {closed.rcvd.code} {closed.rcvd.reason}"
                ) from None
        except InvalidStatus as refused:
            if not connected:
                status = refused.response.status_code
                raise TickcastError(f"{subscription.url} refuses the connection (HTTP {status})") from None
        except (InvalidHandshake, InvalidURI) as error:
            if not connected:
                raise TickcastError(f"{subscription.url} is no tickcast gateway: {error}") from None
        except (OSError, TimeoutError) as error:
            if not connected:
                raise TickcastError(f"can't connect to {subscription.url}: {_reason(error)}") from None
        yield {"type": "lost"}
        await asyncio.sleep(retry_after_s + random.uniform(0, pause_s))
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


async def _follow_processor(subscription: Subscription) -> AsyncGenerator[Message, None]:
    """Yield what a processor says, in the words of a gateway."""
    from tickcast import client  # noqa: PLC0415 (grpc takes its time to import)

    asked = client.subscribe(
        subscription.url,
        subscription.instruments or None,
        status=subscription.statuses or None,
        from_seq=subscription.from_seq,
        snapshot=subscription.snapshot,
        token=subscription.token,
    )
    async with aclosing(asked.frames()) as frames:
        async for item in frames:
            match item:
                case client.Batch():
                    yield {"type": "trades", "trades": [trade.plain() for trade in item.trades()]}
                case client.Snapshot():
                    yield {"type": "snapshot", "trades": [trade.plain() for trade in item.batch.trades()]}
                case client.Gap():
                    yield {"type": "gap", "from": item.first, "to": item.last, "why": item.why}
                case client.Status():
                    yield {"type": "status", "source": item.source, "state": item.state}
                case client.Lost():
                    yield {"type": "lost"}


async def _connection(subscription: Subscription, place: _Place) -> AsyncGenerator[Message, None]:
    """Yield the messages of one connection, and keep `place`."""
    headers = {"Authorization": f"Bearer {subscription.token}"} if subscription.token else {}
    async with websockets.connect(
        subscription.url,
        subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
        additional_headers=headers,
        max_size=_MAX_MESSAGE_BYTES,
        compression=None,
        close_timeout=_CLOSE_S,
    ) as socket:
        if socket.subprotocol != SUBPROTOCOL:
            raise TickcastError(f"{subscription.url} does not speak {SUBPROTOCOL}")
        hello: Message = msgspec.json.decode(await socket.recv())
        place.hello(hello)
        yield hello
        await socket.send(msgspec.json.encode(_subscribe(subscription, place)).decode())
        while True:
            message: Message = msgspec.json.decode(await socket.recv())
            if message["type"] in ("trades", "snapshot", "gap"):
                place.seen(message)
            yield message


def _subscribe(subscription: Subscription, place: _Place) -> Message:
    message: Message = {"type": "subscribe", "snapshot": subscription.snapshot}
    if subscription.instruments:
        message["instruments"] = list(subscription.instruments)
    if subscription.statuses:
        message["status"] = list(subscription.statuses)
    if place.next_seq is not None:
        message |= {"fromSeq": place.next_seq, "epoch": place.epoch}
    return message


async def print_lines(subscription: Subscription, count: int | None) -> None:
    """Print each trade as a JSON line; gaps and lost connections go to stderr.

    Raises:
        TickcastError: As `follow`.
    """
    left = count
    async with aclosing(follow(subscription)) as messages:
        async for message in messages:
            # A snapshot holds trades that were seen before, or never will be one by one.
            trades = message["trades"][:left] if message["type"] == "trades" else []
            if trades:
                sys.stdout.write("".join(msgspec.json.encode(trade).decode() + "\n" for trade in trades))
                sys.stdout.flush()
            elif note := _note(message):
                print(f"tickcast: {note}", file=sys.stderr, flush=True)
            if left is not None:
                left -= len(trades)
                if left == 0:
                    return


async def show_table(subscription: Subscription, count: int | None) -> None:
    """Show the newest trades in a table that lives on the terminal.

    Raises:
        TickcastError: As `follow`.
    """
    console = Console()
    table = _TradeTable(subscription.url)
    subscription = msgspec.structs.replace(subscription, snapshot=subscription.from_seq is None)
    with Live(console=console, get_renderable=lambda: table.render(console.height), refresh_per_second=8, screen=True):
        async with aclosing(follow(subscription)) as messages:
            async for message in messages:
                table.add(message)
                if count is not None and table.trades >= count:
                    return


class _TradeTable:
    """The newest trades, the rate and the state, as rich shows them."""

    def __init__(self, url: str) -> None:
        self.trades = 0
        self._url = url
        self._newest: deque[Message] = deque(maxlen=200)
        self._ticks: deque[tuple[float, int]] = deque(maxlen=64)
        self._state = "connecting"
        self._source = ""

    def add(self, message: Message) -> None:
        """Take in a message."""
        trades = message.get("trades", ())
        self._newest.extend(trades)
        if message["type"] == "trades":
            self.trades += len(trades)
            self._ticks.append((time.monotonic(), len(trades)))
            self._state = "live"
        elif note := _note(message):
            self._state = note
        if message["type"] == "status":
            self._source = message["state"]

    def render(self, height: int) -> Table:
        """Return the table for a terminal of this height."""
        source = f", source {self._source}" if self._source else ""
        table = Table(title=f"{self._url}  {self._state}{source}  {self._rate():,.0f} trades/s", expand=True)
        for name in ("time (UTC)", "instrument", "price", "volume", "VWAP 20m", "status", "reason", "id"):
            table.add_column(name, justify="right" if name in ("price", "volume", "VWAP 20m") else "left", no_wrap=True)
        for trade in list(self._newest)[-max(1, height - 6) :][::-1]:
            table.add_row(*_cells(trade), style=_STYLES.get(trade["status"], ""))
        return table

    def _rate(self) -> float:
        recent = [(at, trades) for at, trades in self._ticks if at > time.monotonic() - 3]
        if len(recent) < 2:
            return 0.0
        return sum(trades for _, trades in recent[1:]) / max(1e-3, recent[-1][0] - recent[0][0])


def _cells(trade: Message) -> list[str | Text]:
    seconds, ns = divmod(int(trade["timestampNs"]), 10**9)
    clock = f"{time.strftime('%H:%M:%S', time.gmtime(seconds))}.{ns // 10**6:03}"
    price, vwap = trade["price"], trade.get("vwap20m")  # a price that is no number is null
    return [
        clock,
        Text(trade["instrumentId"]),
        "" if price is None else f"{price:,}",
        f"{int(trade['volume']):,}",
        "" if vwap is None else f"{vwap:,.4f}",
        trade["status"],
        Text(trade.get("reason", "")),
        trade["tradeId"][-8:],
    ]


def _note(message: Message) -> str:
    """Return what a message says to people, empty if it is no news."""
    match message["type"]:
        case "gap":
            return f"gap: {message['from']} to {message['to']} ({message['why']})"
        case "status":
            return f"source {message['source']} is {message['state']}"
        case "error":
            return f"the gateway says: {message['code']} {message['message']}"
        case "bye":
            return f"the gateway leaves: {message['reason']}"
        case "lost":
            return "connection lost, trying again"
    return ""


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else str(error) or type(error).__name__
