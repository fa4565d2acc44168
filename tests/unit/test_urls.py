"""Sources and sinks by URL: what is understood, and how the rest is refused."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcast import urls
from tickcast.errors import ConfigError
from tickcast.urls import JetStream, JetStreamSink, Jsonl, Kafka, KafkaSink, Nats, NatsSink, Replay, Sim


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("sim://", Sim()),
        ("sim://?rate=5000&instruments=200&seed=1", Sim(rate=5000.0, instruments=200, seed=1)),
        ("sim://?rate=max&faults=0&start=1970-01-01T00:00:01Z", Sim(rate=None, faults=0.0, start_ns=10**9)),
        ("replay:ticks.csv.gz", Replay(path="ticks.csv.gz")),
        (
            "replay:///data/a%3Fb.csv?pace=max&max_gap=250ms",
            Replay(path="/data/a?b.csv", pace=None, max_gap_ns=25 * 10**7),
        ),
        (
            "replay:/a.csv?pace=2.5&volume_scale=1e8",
            Replay(path="/a.csv", pace=2.5, volume_scale=10**8),
        ),
        ("nats://127.0.0.1:4222/ticks", Nats(server="nats://127.0.0.1:4222", subject="ticks")),
        (
            "nats://u:p@h/md.*.>?format=proto-batch",
            Nats(server="nats://u:p@h:4222", subject="md.*.>", format="proto-batch"),
        ),
        ("nats://[::1]:9/t?volume_scale=100", Nats(server="nats://[::1]:9", subject="t", volume_scale=100)),
        (
            "jetstream://a:1,b:2/t?stream=TICKS&durable=desk&format=json",
            JetStream(server="nats://a:1,nats://b:2", subject="t", stream="TICKS", durable="desk", format="json"),
        ),
    ],
)
def test_source_is_read(text: str, source: urls.Source) -> None:
    assert urls.parse_source(text) == source


def test_kafka_is_read_with_the_settings_of_its_client() -> None:
    text = "kafka://u:p%40ss@a,b:1/t.x?group=desk&exactly_once=true&security.protocol=SASL_SSL&ssl.key.password=x"
    assert urls.parse_source(text) == Kafka(
        servers="a:9092,b:1",
        topic="t.x",
        user="u",
        password="p@ss",
        group="desk",
        exactly_once=True,
        options={"security.protocol": "SASL_SSL", "ssl.key.password": "x"},
    )
    assert "p%40ss" not in urls.mask(text)
    assert "ssl.key.password=***" in urls.mask(text)


@pytest.mark.parametrize(
    ("text", "sink"),
    [
        ("jsonl:/x/trades.jsonl", Jsonl(path="/x/trades.jsonl")),
        ("kafka://h/t?format=proto", KafkaSink(servers="h:9092", topic="t", format="proto")),
        ("kafka://h/t?headers=false", KafkaSink(servers="h:9092", topic="t", headers=False)),
        ("nats://h/trades.*", NatsSink(server="nats://h:4222", subject="trades.*")),
        ("jetstream://h/t?stream=T", JetStreamSink(server="nats://h:4222", subject="t", stream="T")),
    ],
)
def test_sink_is_read(text: str, sink: urls.Sink) -> None:
    assert urls.parse_sink(text) == sink


def test_a_sink_can_not_publish_to_many_subjects() -> None:
    with pytest.raises(ConfigError, match="one token"):
        urls.parse_sink("nats://h/trades.>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must be a URL"]),
        ("ticks.csv", ["must be a URL"]),
        ("grpc://h", ["grpc:// needs a host and a port from 1 to 65535"]),
        ("grpc://h:1?cert=a", ["cert and key go together"]),
        ("grpc://h:1?tls=yes", ["tls must be 0 or 1"]),
        ("kafka://h:1", ["kafka:// needs a topic"]),
        ("kafka://h:1/t?start=then", ["start must be one of all, new"]),
        ("kafka://h:1/t?exactly_once=1", ["exactly_once must be one of true, false, was '1'"]),
        ("jetsream://h/t", ["unknown scheme 'jetsream'", "did you mean jetstream:?"]),
        ("jsonl:x", ["jsonl: is not a source"]),
        ("sim://host", ["no host or path"]),
        ("sim://?rat=1", ["unknown parameter 'rat'", "did you mean rate?"]),
        ("sim://?zzz=1", ["unknown parameter 'zzz'", "faults, instruments, rate, seed, start"]),
        ("sim://?rate=0", ["rate", "from 0.001", "or max", "'0'"]),
        ("sim://?rate=nan", ["rate", "'nan'"]),
        ("sim://?faults=1.5", ["faults", "from 0 to 1", "'1.5'"]),
        ("sim://?instruments=1e3", ["instruments", "whole number", "'1e3'"]),
        ("sim://?seed=1&seed=2", ["given twice"]),
        ("sim://?start=yesterday", ["start", "2024-01-02T14:30:00Z", "'yesterday'"]),
        ("replay:", ["needs a path"]),
        ("replay://host/x.csv", ["not a host"]),
        ("replay:x?pace=fast", ["pace", "or max", "'fast'"]),
        ("replay:x?max_gap=1", ["max_gap", "duration", "'1'"]),
        ("replay:x?volume_scale=7", ["volume_scale", "power of ten", "'7'"]),
        ("nats://h:1", ["needs a subject"]),
        ("nats:///t", ["needs a host"]),
        ("nats://h:0/t", ["'h:0'", "port from 1 to 65535"]),
        ("nats://h:99999/t", ["'h:99999'"]),
        ("nats://h/a..b", ["needs a subject"]),
        ("nats://h/t?format=xml", ["format", "proto, proto-batch, json", "'xml'"]),
        ("nats://h/t?stream=S", ["unknown parameter 'stream' of nats:"]),
        ("jetstream://h/t?durable=a.b", ["durable", "without blanks, dots"]),
    ],
)
def test_wrong_source_is_refused_with_what_is_allowed(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        urls.parse_source(text)
    assert all(word in str(caught.value) for word in ["source:", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("parquet:/d/trades", urls.Parquet(path="/d/trades")),
        ("parquet:trades?flush=10s&rows=100000", urls.Parquet(path="trades", flush_ns=10**10, rows=100_000)),
        ("arrow:trades.arrows?flush=100ms", urls.Arrow(path="trades.arrows", flush_ns=10**8)),
    ],
)
def test_sinks_of_columns(text: str, parsed: urls.Sink) -> None:
    assert urls.parse_sink(text) == parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parquet:", ["needs a path"]),
        ("parquet:x?flush=0s", ["flush", "10ms", "'0s'"]),
        ("parquet:x?rows=0", ["rows", "'0'"]),
        ("arrow:x?rows=5", ["unknown parameter 'rows' of arrow:"]),
        ("replay:x.csv", ["replay: is not a sink"]),
    ],
)
def test_wrong_sink_of_columns_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        urls.parse_sink(text)
    assert all(word in str(caught.value) for word in ["sink:", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nats://u:p%40ss@h:1/t", "nats://u:***@h:1/t"),
        ("nats://token@h/t", "nats://***@h/t"),
        ("jetstream://u:p@a:1,b:2/t?stream=S", "jetstream://u:***@a:1,b:2/t?stream=S"),
        ("nats://h/t?token=abc&format=json", "nats://h/t?token=***&format=json"),
        ("nats://h/t?format=json&API_KEY=abc", "nats://h/t?format=json&API_KEY=***"),
        ("sim://?rate=1", "sim://?rate=1"),
        ("replay:/a@b.csv", "replay:/a@b.csv"),
        ("nats:desk:pw@h/t", "nats:desk:***@h/t"),
        ("desk:pw@h", "desk:***@h"),
    ],
)
def test_mask_hides_secrets_and_nothing_else(text: str, masked: str) -> None:
    assert urls.mask(text) == masked


@given(st.text(), st.sampled_from(["nats://", "jetstream://", "nats:", ""]))
def test_no_password_survives_masking_or_refusal(password: str, scheme: str) -> None:
    secret = f"<{password}>"
    url = f"{scheme}desk:{secret}@h:1/t"
    assert secret not in urls.mask(url)
    try:
        assert secret in urls.parse_source(url).server
    except ConfigError as error:
        assert secret not in str(error)


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("replay:a.csv?pace=2", "replay:/base/a.csv?pace=2"),
        ("replay:/a.csv", "replay:/a.csv"),
        ("replay:///a.csv", "replay:///a.csv"),
        ("jsonl:out.jsonl", "jsonl:/base/out.jsonl"),
        ("nats://h/t", "nats://h/t"),
        ("replay:", "replay:"),
    ],
)
def test_relative_path_is_taken_from_the_base(text: str, absolute: str) -> None:
    assert urls.absolute(text, Path("/base")) == absolute


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_refused(text: str) -> None:
    for full in (text, f"sim://?{text}", f"replay:{text}", f"nats://{text}", f"jetstream://{text}"):
        with contextlib.suppress(ConfigError):
            urls.parse_source(full)
