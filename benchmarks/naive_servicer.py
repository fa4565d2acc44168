"""The servicer that one would write first, to measure against: protobuf objects, Pydantic, one tick at a time.

    python benchmarks/naive_servicer.py FOLDER [--wait]

FOLDER holds the classes that protoc made of `proto/market_data.proto`. `--wait`: judge by the example library's
function, which waits 10 ms; without it by one comparison. It keeps no windows: that much is spared it. Its address is
the first line that it prints.
"""

import itertools
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop
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


class Servicer(stubs.MarketDataProcessorServicer):
    """Answers tick by tick."""

    def __init__(self, *, wait: bool) -> None:
        self._library = QuantLibrary() if wait else None
        self._ids = itertools.count()

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
                trade.vwap_20m = tick.price
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
    uvloop.run(main())
