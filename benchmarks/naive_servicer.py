"""The servicer that one would write first, to measure against: protobuf objects, Pydantic, one tick at a time.

    python benchmarks/naive_servicer.py FOLDER [--wait]

FOLDER holds the classes that protoc made of `proto/market_data.proto`. `--wait`: judge by the example library's
function, which waits 10 ms; without it by one comparison. It runs on the event loop that comes with Python, and keeps
what the contract promises, `vwap_20m`, the cheap way: a deque of the last 20 minutes per instrument and running sums
(which drift; tickcast's are exact). Its address is the first line that it prints.
"""

import asyncio
import itertools
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator

import grpc
from pydantic import BaseModel, Field

from tickcast.examples.quantlib import QuantLibrary

sys.path.insert(0, sys.argv[1])
import market_data_pb2 as messages
import market_data_pb2_grpc as stubs


class Tick(BaseModel):
    """A tick, checked."""

    instrument_id: str = Field(min_length=3, max_length=10)
    price: float = Field(gt=0)
    volume: int = Field(gt=0)
    timestamp_ns: int = Field(ge=0)


WINDOW_NS = 20 * 60 * 10**9


class Window:
    """The last 20 minutes of an instrument."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, float, int]] = deque()
        self._notional = 0.0
        self._volume = 0

    def vwap(self, tick: Tick) -> float:
        """Take a tick in and return the average with it."""
        self._held.append((tick.timestamp_ns, tick.price, tick.volume))
        self._notional += tick.price * tick.volume
        self._volume += tick.volume
        while self._held[0][0] <= tick.timestamp_ns - WINDOW_NS:
            _, price, volume = self._held.popleft()
            self._notional -= price * volume
            self._volume -= volume
        return self._notional / self._volume


class Servicer(stubs.MarketDataProcessorServicer):
    """Answers tick by tick."""

    def __init__(self, *, wait: bool) -> None:
        self._library = QuantLibrary() if wait else None
        self._ids = itertools.count()
        self._windows: defaultdict[str, Window] = defaultdict(Window)

    async def ProcessStream(self, ticks: AsyncIterator[object], _: object) -> AsyncIterator[object]:
        async for raw in ticks:
            trade = messages.ValidatedTrade(
                trade_id=f"{next(self._ids):032x}",
                instrument_id=raw.instrument_id,
                price=raw.price,
                volume=raw.volume,
                timestamp_ns=raw.timestamp_ns,
            )
            try:
                tick = Tick(
                    instrument_id=raw.instrument_id,
                    price=raw.price,
                    volume=raw.volume,
                    timestamp_ns=raw.timestamp_ns,
                )
                valid = 0.01 <= tick.price <= 10_000
                if self._library is not None:
                    valid = (await self._library.validate_and_enrich(tick)).status == "VALID"
                trade.status = messages.VALID if valid else messages.INVALID
                if valid:
                    trade.vwap_20m = self._windows[tick.instrument_id].vwap(tick)
            except ValueError as error:
                trade.status = messages.INVALID
                trade.reason = f"Processing error: {error}"
            yield trade


async def main() -> None:
    """Serve until ended."""
    server = grpc.aio.server()
    stubs.add_MarketDataProcessorServicer_to_server(Servicer(wait="--wait" in sys.argv), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
