"""What the gRPC server offers: a service is added by adding it to the list in `make_services`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from tickcast.rpc.market_data import MarketData
from tickcast.rpc.tape import SERVICE, TapeService

if TYPE_CHECKING:
    import asyncio

    from tickcast.config import Config
    from tickcast.processor.service import Processor

__all__ = ["Service", "make_services"]


class Service(NamedTuple):
    """A service: its full name and the handlers of its methods, which take and give bytes."""

    name: str
    """Such as ``marketdata.MarketDataProcessor``; health and reflection know it by this name."""
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]]
    """By name of the method: what ``grpc.*_rpc_method_handler`` return, without (de)serialisers."""


def make_services(config: Config, processor: Processor, draining: asyncio.Event) -> list[Service]:
    """Return every service of a processor.

    Args:
        config: The whole configuration.
        processor: Whose rules and tape they are.
        draining: Set before the server ends: streams give their last answers and end with UNAVAILABLE.
    """
    market_data = MarketData(config, processor.new_stream, draining, processor.count_client_ticks)
    tape = TapeService(Path(config.run_dir), draining, processor.judge_client_tick)
    both_ways = grpc.stream_stream_rpc_method_handler
    return [
        Service("marketdata.MarketDataProcessor", {"ProcessStream": both_ways(market_data.process_stream)}),
        Service(SERVICE, tape.methods()),
        Service("tickcast.v1.MarketDataProcessor", {"ProcessBatches": both_ways(market_data.process_batches)}),
    ]
