"""`tickcast tail` against a gateway of a few lines: what it asks for, what it prints, and how it comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from websockets.asyncio.server import ServerConnection

from tickcast import tail
from tickcast.config import Config, Web
from tickcast.errors import ConfigError, TickcastError
from tickcast.rundir import GatewayInfo, RunDir, announce
from tickcast.tail import Subscription, follow, print_lines, socket_url

Script = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


def trade(seq: int, status: str = "VALID") -> dict[str, Any]:
    return {
        "tradeId": f"{seq:032x}",
        "instrumentId": "[ABC]",
        "price": 10.5,
        "volume": str(seq),
        "timestampNs": "1500000000000000000",
        "status": status,
    }


def frame(first: int, last: int) -> dict[str, Any]:
    return {
        "type": "trades",
        "seq": first,
        "toSeq": last,
        "sentNs": 0,
        "trades": [trade(n) for n in range(first, last + 1)],
    }


async def say(socket: ServerConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await socket.send(msgspec.json.encode(message).decode())


@asynccontextmanager
async def gateway(
    *scripts: Script, epochs: tuple[str, ...] = ("e1", "e1", "e1")
) -> AsyncIterator[tuple[str, list[Any]]]:
    """Serve the n-th connection by the n-th script; yields the address and the subscriptions that came."""
    subscriptions: list[Any] = []
    remaining = list(zip(scripts, epochs, strict=False))

    async def handle(socket: ServerConnection) -> None:
        script, epoch = remaining.pop(0)
        await say(socket, {"type": "hello", "epoch": epoch, "seq": 0})
        subscriptions.append(msgspec.json.decode(await socket.recv()))
        await script(socket, subscriptions[-1])

    protocols = [websockets.Subprotocol(tail.SUBPROTOCOL)]
    async with websockets.serve(handle, "127.0.0.1", 0, subprotocols=protocols) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws/marketdata", subscriptions


async def test_lines_are_the_trades_and_end_after_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    async def script(socket: ServerConnection, _: dict[str, Any]) -> None:
        snapshot = frame(1, 3) | {"type": "snapshot"}
        await say(socket, {"type": "subscribed"}, snapshot, frame(4, 5), {"type": "heartbeat", "seq": 5}, frame(6, 9))
        await socket.wait_closed()

    async with gateway(script) as (url, _):
        await print_lines(Subscription(url=url), 3)
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [trade(4), trade(5), trade(6)]


async def test_subscription_says_what_is_wanted() -> None:
    async def script(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, frame(7, 7))
        await socket.wait_closed()

    async with gateway(script) as (url, subscriptions):
        wanted = Subscription(url=url, instruments=("ABC",), statuses=("INVALID",), from_seq=7)
        await print_lines(wanted, 1)
    assert subscriptions == [
        {
            "type": "subscribe",
            "snapshot": False,
            "instruments": ["ABC"],
            "status": ["INVALID"],
            "fromSeq": 7,
            "epoch": "e1",
        }
    ]


async def collect(url: str, trades: int) -> list[dict[str, Any]]:
    got, seen = [], 0
    async with aclosing(follow(Subscription(url=url))) as messages:
        async for message in messages:
            got.append(message)
            seen += len(message.get("trades", ()))
            if seen >= trades:
                return got
    return got


async def test_lost_connection_is_resumed_right_after_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(socket: ServerConnection, _: dict[str, Any]) -> None:
        # A filtered frame covers sequences whose trades did not come.
        await say(socket, frame(4, 5) | {"toSeq": 8, "seqs": [4, 6]})
        socket.transport.abort()

    async def gap_then_breaks(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, {"type": "gap", "from": 9, "to": 20, "why": "overrun"})
        socket.transport.abort()

    async def goes_on(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, frame(21, 22))
        await socket.wait_closed()

    monkeypatch.setattr(tail, "_FIRST_PAUSE_S", 0.001)
    async with gateway(breaks, gap_then_breaks, goes_on) as (url, subscriptions):
        got = await collect(url, 4)
    assert [s.get("fromSeq") for s in subscriptions] == [None, 9, 21]
    assert [s.get("epoch") for s in subscriptions[1:]] == ["e1", "e1"]
    assert [m["type"] for m in got].count("lost") == 2


async def test_new_epoch_is_followed_from_its_present(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, frame(4, 5))
        socket.transport.abort()

    async def goes_on(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, frame(1, 1))
        await socket.wait_closed()

    monkeypatch.setattr(tail, "_FIRST_PAUSE_S", 0.001)
    async with gateway(breaks, goes_on, epochs=("e1", "e2")) as (url, subscriptions):
        await collect(url, 3)
    assert "fromSeq" not in subscriptions[1]


async def test_close_code_that_says_stay_away_ends_it() -> None:
    async def refuses(socket: ServerConnection, _: dict[str, Any]) -> None:
        await socket.close(4501, "not for you")

    async with gateway(refuses) as (url, _):
        with pytest.raises(TickcastError, match="4501 not for you"):
            await collect(url, 1)


async def test_close_code_that_says_come_back_is_followed_by_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sends_away(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, {"type": "bye", "code": 4001, "reason": "restart", "retryAfterMs": 5})
        await socket.close(4001, "restart")

    async def goes_on(socket: ServerConnection, _: dict[str, Any]) -> None:
        await say(socket, frame(1, 1))
        await socket.wait_closed()

    monkeypatch.setattr(tail, "_FIRST_PAUSE_S", 0.001)
    async with gateway(sends_away, goes_on) as (url, subscriptions):
        await collect(url, 1)
    assert len(subscriptions) == 2


async def test_nobody_there_and_no_gateway_there_are_told_apart() -> None:
    with pytest.raises(TickcastError, match=r"can't connect .* Connection refused"):
        await collect("ws://127.0.0.1:1/ws/marketdata", 1)

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TickcastError, match=r"refuses the connection .HTTP 404."):
            await collect(f"ws://127.0.0.1:{port}/", 1)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://h:1", "ws://h:1/ws/marketdata"),
        ("https://h", "wss://h/ws/marketdata"),
        ("h:1", "ws://h:1/ws/marketdata"),
        ("ws://h:1/prefix/ws/marketdata", "ws://h:1/prefix/ws/marketdata"),
    ],
)
def test_address_is_completed(given: str, address: str) -> None:
    assert socket_url(given, Config()) == address


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="ftp://h"):
        socket_url("ftp://h", Config())


def test_without_an_address_the_run_directory_is_asked(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    config = Config(run_dir=str(run.path), web=Web(port=3100))
    assert socket_url(None, config) == "ws://127.0.0.1:3100/ws/marketdata"
    announce(run.gateway_info, GatewayInfo(pid=1, host="0.0.0.0", port=3200, config_hash=""))
    assert socket_url(None, config) == "ws://127.0.0.1:3200/ws/marketdata"


async def test_table_shows_the_newest_first_and_takes_no_markup_from_the_wire() -> None:
    table = tail._TradeTable("ws://h")
    table.add(frame(1, 300))
    table.add({"type": "status", "source": "sim", "state": "stale"})
    from rich.console import Console

    console = Console(width=140, height=12, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123, ASYNC230
    console.print(table.render(12))
    text = console.export_text()
    assert "[ABC]" in text
    assert "stale" in text
    ids = [line.split()[-2] for line in text.splitlines() if "[ABC]" in line]
    assert ids == [f"{seq:032x}"[-8:] for seq in range(300, 294, -1)]


async def test_table_leaves_the_cell_of_a_price_that_is_no_number_empty() -> None:
    table = tail._TradeTable("ws://h")
    table.add(frame(1, 1) | {"trades": [trade(1, "INVALID") | {"price": None, "reason": "Processing error: price"}]})
    assert table.render(12).row_count == 1
    assert tail._cells(table._newest[-1])[2] == ""
