"""The schemes: which parameters each has, and what it makes of a URL.

Every scheme lists its parameters; an unknown scheme or parameter is refused with what is allowed, because a misspelt
parameter that is silently ignored costs a trading day.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl, unquote

import msgspec

from tickcast.errors import ConfigError
from tickcast.units import parse_duration_ns, parse_time_ns
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
    Replay,
    Sim,
    Sink,
    Source,
    TimeUnit,
)
from tickcast.urls.masking import is_masked, mask
from tickcast.urls.parts import EXAMPLES, Url, hosts_of, path_of, server_and_subject
from tickcast.urls.values import (
    columns_of,
    kafka_name,
    nats_name,
    number,
    number_or_max,
    one_of,
    pause,
    payload_format,
    replay_columns,
    true_or_false,
    volume_scale,
    whole,
    yes_or_no,
)

__all__ = ["absolute", "is_dead_letter_url", "parse_sink", "parse_source"]

_Parsed = TypeVar("_Parsed")


def parse_source(text: str) -> Source:
    """Return the source that a URL names.

    Raises:
        ConfigError: An unknown scheme or parameter, or a wrong value; says what is allowed.
    """
    return _parse("source", text, _SOURCES)


def parse_sink(text: str) -> Sink:
    """Return the sink that a URL names.

    Raises:
        ConfigError: An unknown scheme or parameter, or a wrong value; says what is allowed.
    """
    return _parse("sink", text, _SINKS)


def absolute(url: str, base: Path) -> str:
    """Return the URL with a relative path of ``replay:``, or of a sink that is a file, taken from `base`."""
    for scheme in ("replay:", "jsonl:", "parquet:", "arrow:"):
        rest = url.removeprefix(scheme)
        if rest != url and rest and not rest.startswith(("/", "?")):
            path = Path(rest).expanduser() if rest.startswith("~") else base / rest
            return f"{scheme}{path}"
    return url


def is_dead_letter_url(text: str) -> bool:
    """Tell whether dead letters go to a broker, not to a file."""
    return text.startswith(("kafka://", "nats://", "jetstream://"))


def _parse(role: str, text: str, schemes: Mapping[str, Callable[[Url], _Parsed]]) -> _Parsed:
    scheme, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigError(f"{role}: must be a URL such as {EXAMPLES[role]}, was {mask(text)!r}")
    rest, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    url = Url(role, text, scheme, rest, dict(pairs))
    if is_masked(text):
        url.refuse("a secret in it is masked, as `tickcast config` shows it: fill it in")
    if len(url.params) < len(pairs):
        url.refuse("a parameter is given twice")
    if scheme not in schemes:
        url.refuse(_unknown_scheme(role, scheme, schemes))
    return schemes[scheme](url)


def _unknown_scheme(role: str, scheme: str, schemes: Mapping[str, object]) -> str:
    allowed = ", ".join(f"{name}:" for name in sorted(schemes))
    if scheme in _SOURCES or scheme in _SINKS:
        return f"{scheme}: is not a {role}; allowed: {allowed}"
    near = difflib.get_close_matches(scheme, schemes, 1)
    return f"unknown scheme {scheme!r}, " + (f"did you mean {near[0]}:?" if near else f"allowed: {allowed}")


def _sim(url: Url) -> Sim:
    if url.rest not in ("//", "", "///"):
        url.refuse("sim:// has no host or path")
    return Sim(
        **url.values(
            {
                "rate": ("rate", number_or_max(1e-3, 1e9)),
                "instruments": ("instruments", whole(1, 65_536)),
                "seed": ("seed", whole(0, 2**64 - 1)),
                "faults": ("faults", number(0.0, 1.0)),
                "start": ("start_ns", parse_time_ns),
            }
        )
    )


def _replay(url: Url) -> Replay:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "pace": ("pace", number_or_max(1e-3, 1e6)),
        "max_gap": ("max_gap_ns", parse_duration_ns),
        "columns": ("columns", columns_of),
        "unit": ("unit", one_of(*get_args(TimeUnit))),
        "instrument": ("instrument", str),
        "volume_scale": ("volume_scale", volume_scale),
    }
    values = url.values(names)
    columns = values.pop("columns", None)
    return Replay(path=path_of(url), **replay_columns(columns, values.pop("unit", None)), **values)


def _nats(url: Url) -> Nats:
    server, subject = server_and_subject(url)
    return Nats(server=server, subject=subject, **url.values(_PAYLOAD))


def _jetstream(url: Url) -> JetStream:
    server, subject = server_and_subject(url)
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "stream": ("stream", nats_name),
        "durable": ("durable", nats_name),
    }
    return JetStream(server=server, subject=subject, **url.values({**names, **_PAYLOAD}))


def _grpc(url: Url) -> Grpc:
    match = re.fullmatch(r"//(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})/?", url.rest)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        url.refuse(f"grpc:// needs a host and a port from 1 to 65535, {EXAMPLES['grpc']}")
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "token": ("token", str),
        "tls": ("tls", yes_or_no),
        "ca": ("ca", str),
        "cert": ("cert", str),
        "key": ("key", str),
    }
    values = url.values(names)
    if ("cert" in values) != ("key" in values):
        url.refuse("cert and key go together")
    tls = values.pop("tls", False) or bool(values.keys() & {"ca", "cert"})
    return Grpc(address=f"{match[1]}:{match[2]}", tls=tls, **values)


def _kafka(url: Url) -> Kafka:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "group": ("group", kafka_name),
        "instance": ("instance", kafka_name),
        "start": ("start", one_of("all", "new")),
        "exactly_once": ("exactly_once", true_or_false),
    }
    broker, url = _kafka_broker(url)
    return Kafka(**broker, **url.values({**names, **_PAYLOAD}))


def _kafka_sink(url: Url) -> KafkaSink:
    broker, url = _kafka_broker(url)
    return KafkaSink(**broker, **url.values(_MESSAGES))


def _kafka_broker(url: Url) -> tuple[dict[str, Any], Url]:
    """Return what source and sink have in common, and the URL without the settings of librdkafka."""
    authority, _, path = url.rest.removeprefix("//").partition("/")
    user, at, hosts = authority.rpartition("@")
    servers = ",".join(f"{host}:{port}" for host, port in hosts_of(url, hosts, 9092))
    topic = unquote(path)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
        url.refuse(f"kafka:// needs a topic of letters, digits, dots, - and _, {EXAMPLES['kafka']}")
    name, _, password = user.partition(":")
    broker = {
        "servers": servers,
        "topic": topic,
        "user": unquote(name) if at else None,
        "password": unquote(password) if at else None,
        "options": {name: text for name, text in url.params.items() if "." in name},
    }
    params = {name: text for name, text in url.params.items() if "." not in name}
    return broker, msgspec.structs.replace(url, params=params)


def _nats_sink(url: Url) -> NatsSink:
    server, subject = server_and_subject(url)
    _check_sink_subject(url, subject)
    return NatsSink(server=server, subject=subject, **url.values(_MESSAGES))


def _jetstream_sink(url: Url) -> JetStreamSink:
    server, subject = server_and_subject(url)
    _check_sink_subject(url, subject)
    return JetStreamSink(server=server, subject=subject, **url.values({"stream": ("stream", nats_name), **_MESSAGES}))


def _check_sink_subject(url: Url, subject: str) -> None:
    tokens = subject.split(".")
    if ">" in tokens or tokens.count("*") > 1:
        url.refuse(f"{subject!r} must be a subject to publish to; one token * stands for the instrument")


def _jsonl(url: Url) -> Jsonl:
    return Jsonl(path=path_of(url), **url.values({}))


def _parquet(url: Url) -> Parquet:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "flush": ("flush_ns", pause),
        "rows": ("rows", whole(1, 100_000_000)),
    }
    return Parquet(path=path_of(url), **url.values(names))


def _arrow(url: Url) -> Arrow:
    return Arrow(path=path_of(url), **url.values({"flush": ("flush_ns", pause)}))


_PAYLOAD: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "format": ("format", payload_format),
    "volume_scale": ("volume_scale", volume_scale),
}
_MESSAGES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "format": ("format", payload_format),
    "headers": ("headers", true_or_false),
}
_SOURCES: Mapping[str, Callable[[Url], Source]] = {
    "sim": _sim,
    "replay": _replay,
    "nats": _nats,
    "jetstream": _jetstream,
    "grpc": _grpc,
    "kafka": _kafka,
}
_SINKS: Mapping[str, Callable[[Url], Sink]] = {
    "jsonl": _jsonl,
    "arrow": _arrow,
    "parquet": _parquet,
    "kafka": _kafka_sink,
    "nats": _nats_sink,
    "jetstream": _jetstream_sink,
}
