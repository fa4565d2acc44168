"""A real nats-server with a stream of ticks, for the tests of the whole."""

import asyncio
import contextlib
import json
import time

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.nats import NatsServer


class Stream:
    """A JetStream stream that a test publishes to; every tick's volume is its number, from 1."""

    def __init__(self, server):
        self.server = server
        self.published = 0
        self.source = f"jetstream://127.0.0.1:{server.port}/ticks?stream=TICKS"

    async def open(self):
        self.client = await nats.connect(self.server.url)
        self.js = self.client.jetstream()
        await self.js.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
        return self

    async def close(self):
        await self.client.close()

    async def publish(self, count, *, rate=None, instruments=20, instrument=None, price=None, timestamp=None):
        """Publish numbered ticks, paced where a rate (ticks/s) is given."""
        start = time.monotonic()
        for i in range(count):
            self.published += 1
            n = self.published
            tick = {
                "instrumentId": instrument or f"SYM{n % instruments:03}",
                "price": price if price is not None else 100 + n % 97 / 100,
                "volume": n,
                "timestampNs": str(timestamp if timestamp is not None else time.time_ns()),
            }
            await self.client.publish("ticks", json.dumps(tick).encode())
            if rate and (ahead := i / rate - (time.monotonic() - start)) > 0:
                await asyncio.sleep(ahead)
        await self.client.flush()

    @contextlib.asynccontextmanager
    async def publishing(self, rate):
        """Publish at this rate until the block ends."""
        task = asyncio.create_task(self._publish_for_ever(rate))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _publish_for_ever(self, rate):
        while True:
            await self.publish(max(1, rate // 20), rate=rate)


@pytest.fixture
async def stream():
    with NatsServer() as server:
        opened = await Stream(server).open()
        yield opened
        await opened.close()
