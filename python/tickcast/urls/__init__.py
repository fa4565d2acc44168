"""Sources and sinks named by URL, read into typed structs; messages show a URL with its secrets masked."""

from tickcast.urls.kinds import (
    Arrow,
    Grpc,
    JetStream,
    JetStreamSink,
    Jsonl,
    Kafka,
    KafkaSink,
    Nats,
    NatsSink,
    Parquet,
    PayloadFormat,
    Replay,
    Sim,
    Sink,
    Source,
    TimeUnit,
)
from tickcast.urls.masking import MASK, is_secret, mask
from tickcast.urls.schemes import absolute, is_dead_letter_url, parse_sink, parse_source
from tickcast.urls.values import check_volume_scale, replay_columns

__all__ = [
    "MASK",
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
    "absolute",
    "check_volume_scale",
    "is_dead_letter_url",
    "is_secret",
    "mask",
    "parse_sink",
    "parse_source",
    "replay_columns",
]
