"""What `queue_path.py` measures tickcast against: Kafka → decode → screen → a rule → 20-minute VWAP → Kafka.

    python queue_contenders.py usual|batch|quix SERVERS IN OUT single|many PROTO_FOLDER

Each reads protobuf ticks, one a message (single) or a `RawMarketTickBatch` (many), and writes JSON, a message a trade
(single), or `ValidatedTradeBatch` (many), keyed by instrument. None of them screens as much, reads again what a crash
has lost, or knows late ticks: what is left out costs nothing.
"""

import sys
from collections import defaultdict, deque

WINDOW_NS = 20 * 60_000_000_000
FAR = 0.05
REASON = "Too far from the 20-minute VWAP"


def settings(servers, name):
    return {
        "bootstrap.servers": servers,
        "group.id": name,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": True,
    }


def producer_settings(servers):
    """The same as those of tickcast's sink."""
    return {
        "bootstrap.servers": servers,
        "enable.idempotence": True,
        "linger.ms": 2,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
        "partitioner": "murmur2_random",
    }


class Window:
    """Running sums over a deque."""

    def __init__(self):
        self.held, self.amount, self.volume = deque(), 0.0, 0

    def vwap(self):
        return self.amount / self.volume if self.volume else None

    def add(self, time_ns, price, volume):
        while self.held and self.held[0][0] <= time_ns - WINDOW_NS:
            _, old_price, old_volume = self.held.popleft()
            self.amount -= old_price * old_volume
            self.volume -= old_volume
        self.held.append((time_ns, price, volume))
        self.amount += price * volume
        self.volume += volume
        return self.amount / self.volume


def near_vwap(price, vwap):
    """The rule, one tick at a time."""
    return None if vwap is None or abs(price / vwap - 1) < FAR else REASON


def models():
    """Pydantic models as one would write them."""
    from pydantic import BaseModel, Field

    class Tick(BaseModel):
        instrument_id: str = Field(min_length=3, max_length=10)
        price: float = Field(ge=0.01, le=10_000)
        volume: int = Field(gt=0)
        timestamp_ns: int = Field(ge=0)

    class Trade(BaseModel):
        tradeId: str
        instrumentId: str
        price: float
        volume: str
        timestampNs: str
        status: str
        reason: str | None = None
        vwap20m: float | None = None

    return Tick, Trade


class OneByOne:
    """A tick object, a model, a call of the rule and a deque for each tick."""

    def __init__(self, market):
        self.tick, self.trade = models()
        self.market = market
        self.windows = defaultdict(Window)

    def judged(self, raw, trade_id):
        from pydantic import ValidationError

        try:
            tick = self.tick(
                instrument_id=raw.instrument_id,
                price=raw.price,
                volume=raw.volume,
                timestamp_ns=raw.timestamp_ns,
            )
        except ValidationError as error:
            return raw, trade_id, f"Processing error: {error.errors()[0]['msg']}", None
        window = self.windows[tick.instrument_id]
        reason = near_vwap(tick.price, window.vwap())
        vwap = window.add(tick.timestamp_ns, tick.price, tick.volume) if reason is None else None
        return raw, trade_id, reason, vwap

    def single(self, payload, trade_id):
        raw = self.market.RawMarketTick.FromString(payload)
        _, _, reason, vwap = self.judged(raw, trade_id)
        trade = self.trade(
            tradeId=f"{trade_id}0000",
            instrumentId=raw.instrument_id,
            price=raw.price,
            volume=str(raw.volume),
            timestampNs=str(raw.timestamp_ns),
            status="INVALID" if reason else "VALID",
            reason=reason,
            vwap20m=vwap,
        )
        return raw.instrument_id, trade.model_dump_json(exclude_none=True).encode()

    def many(self, payload, trade_id):
        from tickcast.v1 import judge_pb2, ticks_pb2

        batch = judge_pb2.ValidatedTradeBatch()
        name = ""
        for index, raw in enumerate(ticks_pb2.RawMarketTickBatch.FromString(payload).ticks):
            _, _, reason, vwap = self.judged(raw, trade_id)
            name = raw.instrument_id
            batch.trades.append(
                self.market.ValidatedTrade(
                    trade_id=f"{trade_id}{index:04x}",
                    instrument_id=name,
                    price=raw.price,
                    volume=raw.volume,
                    timestamp_ns=raw.timestamp_ns,
                    status=2 if reason else 1,
                    reason=reason,
                    vwap_20m=vwap or 0.0,
                )
            )
        return name, batch.SerializeToString()


def usual(servers, source, sink, form):
    """Poll one message, handle it, produce one message."""
    import market_data_pb2 as market
    from confluent_kafka import Consumer, Producer

    consumer = Consumer(settings(servers, f"usual-{form}"))
    consumer.subscribe([source])
    producer = Producer(producer_settings(servers))
    work = OneByOne(market)
    handle = work.single if form == "single" else work.many
    while True:
        message = consumer.poll(0.1)
        if message is None or message.error():
            producer.poll(0)
            continue
        trade_id = f"{message.partition():012x}{message.offset():016x}"
        key, payload = handle(message.value(), trade_id)
        while True:
            try:
                producer.produce(sink, payload, key)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)


def quix(servers, source, sink, form):
    """Quix Streams; the window is a deque in memory, which is cheaper than its state store."""
    import market_data_pb2 as market
    from quixstreams import Application, message_context

    app = Application(
        broker_address=servers,
        consumer_group=f"quix-{form}",
        auto_offset_reset="earliest",
        loglevel="WARNING",
        producer_extra_config={"linger.ms": 2, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000},
    )
    incoming = app.topic(source, value_deserializer="bytes", key_deserializer="str")
    outgoing = app.topic(sink, value_serializer="bytes", key_serializer="str")
    work = OneByOne(market)
    handle = work.single if form == "single" else work.many

    def judged(payload):
        context = message_context()
        return handle(payload, f"{context.partition:012x}{context.offset:016x}")[1]

    app.dataframe(incoming).apply(judged).to_topic(outgoing)
    app.run()


class Series:
    """Times and running sums of an instrument, as arrays."""

    def __init__(self, np):
        self.np = np
        self.times = np.empty(0, np.int64)
        self.sums = np.zeros((2, 1))

    def judged(self, times, prices, volumes):
        """Return which pass, and the VWAP of each, over arrays; times are taken to ascend."""
        np = self.np
        all_times = np.concatenate([self.times, times])
        before = np.searchsorted(all_times, times - WINDOW_NS, side="right")
        added = np.cumsum([prices * volumes, volumes], axis=1) + self.sums[:, -1:]
        sums = np.concatenate([self.sums, added], axis=1)
        at = len(self.times) + np.arange(len(times))
        seen = sums[:, at] - sums[:, np.minimum(before, at)]
        with np.errstate(invalid="ignore", divide="ignore"):
            passed = ~(np.abs(prices / (seen[0] / seen[1]) - 1) >= FAR)
        window = sums[:, at + 1] - sums[:, before]
        drop = int(before[-1])
        if drop > 4096:
            all_times, sums = all_times[drop:], sums[:, drop:]
        self.times, self.sums = all_times, sums
        return passed, window[0] / window[1]


def batch(servers, source, sink, form):
    """Many messages at a time: columns, the rule over arrays, and as little Python a trade as possible."""
    import market_data_pb2 as market
    import msgspec
    import numpy as np
    from confluent_kafka import Consumer, Producer
    from tickcast.v1 import judge_pb2, ticks_pb2

    consumer = Consumer(settings(servers, f"batch-{form}"))
    consumer.subscribe([source])
    producer = Producer(producer_settings(servers))
    encode = msgspec.json.Encoder().encode
    series = defaultdict(lambda: Series(np))
    parse_one, parse_many = market.RawMarketTick.FromString, ticks_pb2.RawMarketTickBatch.FromString
    while True:
        messages = [m for m in consumer.consume(10_000, 0.02) if m.error() is None]
        if not messages:
            producer.poll(0)
            continue
        if form == "single":
            ticks = [parse_one(m.value()) for m in messages]
            ids = [f"{m.partition():012x}{m.offset():016x}0000" for m in messages]
        else:
            parsed = [parse_many(m.value()).ticks for m in messages]
            ticks = [tick for many in parsed for tick in many]
            ids = [
                f"{m.partition():012x}{m.offset():016x}{index:04x}"
                for m, many in zip(messages, parsed, strict=True)
                for index in range(len(many))
            ]
        names = [tick.instrument_id for tick in ticks]
        prices = np.array([tick.price for tick in ticks])
        volumes = np.array([tick.volume for tick in ticks])
        times = np.array([tick.timestamp_ns for tick in ticks])
        good = (prices >= 0.01) & (prices <= 10_000) & (volumes > 0) & (times >= 0)
        rows_of = defaultdict(list)
        for row, name in enumerate(names):
            rows_of[name].append(row)
        for name, listed in rows_of.items():
            rows = np.array(listed)
            rows_good = rows[good[rows]]
            vwaps = np.full(len(rows), np.nan)
            passed = np.zeros(len(rows), bool)
            if len(rows_good):
                passed[good[rows]], vwaps[good[rows]] = series[name].judged(
                    times[rows_good], prices[rows_good], volumes[rows_good]
                )
            out = []
            for row, ok, vwap in zip(listed, passed.tolist(), vwaps.tolist(), strict=True):
                tick = ticks[row]
                if form == "single":
                    trade = {
                        "tradeId": ids[row],
                        "instrumentId": name,
                        "price": tick.price,
                        "volume": str(tick.volume),
                        "timestampNs": str(tick.timestamp_ns),
                        "status": "VALID" if ok else "INVALID",
                    }
                    trade |= {"vwap20m": vwap} if ok else {"reason": REASON}
                    produce(producer, sink, encode(trade), name)
                else:
                    out.append(
                        market.ValidatedTrade(
                            trade_id=ids[row],
                            instrument_id=name,
                            price=tick.price,
                            volume=tick.volume,
                            timestamp_ns=tick.timestamp_ns,
                            status=1 if ok else 2,
                            reason=None if ok else REASON,
                            vwap_20m=vwap if ok else 0.0,
                        )
                    )
            if out:
                produce(producer, sink, judge_pb2.ValidatedTradeBatch(trades=out).SerializeToString(), name)
        producer.poll(0)


def produce(producer, sink, payload, key):
    while True:
        try:
            producer.produce(sink, payload, key)
            return
        except BufferError:
            producer.poll(0.05)


if __name__ == "__main__":
    who, servers, source, sink, form, protos = sys.argv[1:]
    # Beside an installed tickcast its package is in the way of the contract's own.
    sys.path.insert(0, protos)
    {"usual": usual, "quix": quix, "batch": batch}[who](servers, source, sink, form)
