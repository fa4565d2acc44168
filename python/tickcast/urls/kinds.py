"""What the URLs of sources and sinks say, as typed structs."""

from typing import Literal

import msgspec

__all__ = [
    "Arrow",
    "Grpc",
    "JetStream",
    "JetStreamSink",
    "Jsonl",
    "Kafka",
    "KafkaSink",
    "Nats",
    "NatsSink",
    "Parquet",
    "PayloadFormat",
    "Replay",
    "Sim",
    "Sink",
    "Source",
    "TimeUnit",
]

PayloadFormat = Literal["proto", "proto-batch", "json"]
"""How a message's payload is read; none: told by its header or its first byte."""

TimeUnit = Literal["ns", "us", "ms", "s"]
"""Unit of a column of times since the Unix epoch."""


class Sim(msgspec.Struct, frozen=True, kw_only=True, tag="sim"):
    """``sim://``: the built-in simulator."""

    rate: float | None = 5_000.0
    """Ticks per second over all instruments; None: as fast as possible."""
    instruments: int = 200
    """Instruments, 1 to 65536."""
    seed: int = 1
    """Seed of the generator; the same seed and `start_ns` give the same ticks."""
    faults: float = 0.01
    """Share of faulty ticks, 0 to 1."""
    start_ns: int | None = None
    """Event time of the first tick, ns since the Unix epoch; None: the clock."""


class Replay(msgspec.Struct, frozen=True, kw_only=True, tag="replay"):
    """``replay:PATH``: a recorded file: CSV, Parquet, an Arrow stream or DBN; or a directory of Parquet."""

    path: str
    """The file or directory."""
    pace: float | None = 1.0
    """Speed, times the original; None: as fast as possible."""
    max_gap_ns: int = 1_000_000_000
    """Longer pauses are cut to this, ns of playing time."""
    columns: dict[str, str] = {}
    """What the file calls the columns that it does not call as we do."""
    unit: TimeUnit = "ns"
    """Unit of the times, where the file does not know it itself."""
    instrument: str | None = None
    """The one instrument of the whole file, where it has no such column."""
    volume_scale: int | None = None
    """Volumes are multiplied by this power of ten; None: as configured."""


class Nats(msgspec.Struct, frozen=True, kw_only=True, tag="nats"):
    """``nats://host:port/subject``: core NATS, which keeps nothing."""

    server: str
    """Server URL with its user and password, without subject; several hosts are comma-separated."""
    subject: str
    """Subject, may hold wildcards."""
    format: PayloadFormat | None = None
    """Format of the payloads."""
    volume_scale: int | None = None
    """Volumes are multiplied by this power of ten; None: as configured."""


class JetStream(msgspec.Struct, frozen=True, kw_only=True, tag="jetstream"):
    """``jetstream://host:port/subject``: a NATS stream, read on from the tape's position."""

    server: str
    """Server URL (``nats://``) with its user and password; several hosts are comma-separated."""
    subject: str
    """Subject that filters the stream, may hold wildcards."""
    stream: str | None = None
    """Name of the stream; None: the one that holds the subject."""
    durable: str | None = None
    """Name under which the position is kept in the server; None: nowhere but in the tape."""
    format: PayloadFormat | None = None
    """Format of the payloads."""
    volume_scale: int | None = None
    """Volumes are multiplied by this power of ten; None: as configured."""


class Grpc(msgspec.Struct, frozen=True, kw_only=True, tag="grpc"):
    """``grpc://host:port``: the tape of another tickcast, followed."""

    address: str
    """``host:port`` of its gRPC server."""
    token: str | None = None
    """Token that it asks for. Secret."""
    tls: bool = False
    """Encrypted; implied by the files below."""
    ca: str | None = None
    """File with the certificates that vouch for the server; None: the system's."""
    cert: str | None = None
    """File with the own certificate, where the server asks for one."""
    key: str | None = None
    """File with its key."""


class Kafka(msgspec.Struct, frozen=True, kw_only=True, tag="kafka"):
    """``kafka://host:port/topic``: a topic, read by a consumer group."""

    servers: str
    """Brokers to begin with, ``host:port``, comma-separated."""
    topic: str
    """Topic."""
    user: str | None = None
    """SASL user; None: none."""
    password: str | None = None
    """SASL password."""
    group: str = "tickcast"
    """Consumer group: its members share the partitions."""
    instance: str | None = None
    """Name of this member for ever (``group.instance.id``); None: made of host and run directory."""
    start: Literal["all", "new"] = "all"
    """Where to begin in a partition of which the group has read nothing."""
    exactly_once: bool = False
    """Write to the Kafka sink by transactions, with the group's positions inside."""
    format: PayloadFormat | None = None
    """Format of the payloads."""
    volume_scale: int | None = None
    """Volumes are multiplied by this power of ten; None: as configured."""
    options: dict[str, str] = {}
    """Settings of librdkafka: every parameter with a dot in its name."""


class KafkaSink(msgspec.Struct, frozen=True, kw_only=True, tag="kafka"):
    """``kafka://host:port/topic``: a message a trade, keyed by instrument."""

    servers: str
    """Brokers to begin with, ``host:port``, comma-separated."""
    topic: str
    """Topic."""
    user: str | None = None
    """SASL user; None: none."""
    password: str | None = None
    """SASL password."""
    format: PayloadFormat = "json"
    """Format of the payloads."""
    headers: bool = True
    """Write headers beside the payload; without them messages are smaller and cost less."""
    options: dict[str, str] = {}
    """Settings of librdkafka: every parameter with a dot in its name."""


class NatsSink(msgspec.Struct, frozen=True, kw_only=True, tag="nats"):
    """``nats://host:port/subject``: a message a trade on core NATS, which keeps nothing."""

    server: str
    """Server URL with its user and password; several hosts are comma-separated."""
    subject: str
    """Subject; a token ``*`` stands for the instrument."""
    format: PayloadFormat = "json"
    """Format of the payloads."""
    headers: bool = True
    """Write headers beside the payload; without them messages are smaller and cost less."""


class JetStreamSink(msgspec.Struct, frozen=True, kw_only=True, tag="jetstream"):
    """``jetstream://host:port/subject``: a message a trade in a stream, each once by its trade id."""

    server: str
    """Server URL (``nats://``) with its user and password; several hosts are comma-separated."""
    subject: str
    """Subject; a token ``*`` stands for the instrument."""
    stream: str | None = None
    """Name of the stream; None: whichever has the subject."""
    format: PayloadFormat = "json"
    """Format of the payloads."""
    headers: bool = True
    """Write headers beside the payload, but for ``Nats-Msg-Id``, which is always written."""


class Jsonl(msgspec.Struct, frozen=True, kw_only=True, tag="jsonl"):
    """``jsonl:FILE``: one trade a line, appended."""

    path: str
    """The file."""


class Parquet(msgspec.Struct, frozen=True, kw_only=True, tag="parquet"):
    """``parquet:DIR``: Parquet files by date and instrument."""

    path: str
    """The directory."""
    flush_ns: int = 300 * 10**9
    """How often files are written, ns."""
    rows: int = 1_000_000
    """They are written earlier once there are so many trades."""


class Arrow(msgspec.Struct, frozen=True, kw_only=True, tag="arrow"):
    """``arrow:FILE``: an Arrow IPC stream, appended."""

    path: str
    """The file."""
    flush_ns: int = 10**9
    """How often a batch is appended, ns."""


Source = Sim | Replay | Nats | JetStream | Grpc | Kafka
Sink = Jsonl | KafkaSink | NatsSink | JetStreamSink | Parquet | Arrow
