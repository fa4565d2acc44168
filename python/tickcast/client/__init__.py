"""The client: trades of a running tickcast, in a few lines, with resume and reconnect inside.

    async for trade in tickcast.client.subscribe("ws://127.0.0.1:3000", instruments=["AAPL"]):
        print(trade.instrument_id, trade.price, trade.status)

``ws://`` asks a gateway, ``grpc://`` a processor. `docs/client.md` tells more.
"""

from tickcast.client.stream import Subscription, subscribe
from tickcast.client.sync import BlockingSubscription, subscribe_sync
from tickcast.client.types import Batch, Event, Gap, Lost, Mode, Place, Snapshot, Status, Trade
from tickcast.errors import LinkLostError, LinkRefusedError

__all__ = [
    "Batch",
    "BlockingSubscription",
    "Event",
    "Gap",
    "LinkLostError",
    "LinkRefusedError",
    "Lost",
    "Mode",
    "Place",
    "Snapshot",
    "Status",
    "Subscription",
    "Trade",
    "subscribe",
    "subscribe_sync",
]
