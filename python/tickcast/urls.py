"""Sources and sinks named by URL, read into typed structs.

Every scheme lists its parameters; an unknown scheme or parameter is refused with what is allowed, because a misspelt
parameter that is silently ignored costs a trading day. Messages show a URL with its secrets masked.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args
from urllib.parse import parse_qsl, unquote

import msgspec

from tickcast.errors import ConfigError
from tickcast.units import parse_duration_ns, parse_time_ns

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
    "absolute",
    "mask",
    "parse_sink",
    "parse_source",
    "replay_columns",
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


_Parsed = TypeVar("_Parsed")

Source = Sim | Replay | Nats | JetStream | Grpc | Kafka
Sink = Jsonl | KafkaSink | NatsSink | JetStreamSink | Parquet | Arrow


class _Url(msgspec.Struct, frozen=True):
    """A URL taken apart: what stands before the query, and the query."""

    role: str
    text: str
    scheme: str
    rest: str
    params: dict[str, str]

    def refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self.role}: {problem} ({mask(self.text)})")

    def values(self, allowed: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
        """Return the parameters as fields; `allowed` is parameter -> (field, reader)."""
        found = {}
        for name, text in self.params.items():
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, 1)
                hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(allowed)) or 'none'}"
                self.refuse(f"unknown parameter {name!r} of {self.scheme}:, {hint}")
            field, read = allowed[name]
            try:
                found[field] = read(text)
            except ValueError as error:
                self.refuse(f"{name} {error}")
        return found


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


def mask(url: str) -> str:
    """Return the URL with passwords, tokens and secret parameters replaced by ``***``.

    Works on wrong URLs too, and hides rather too much: a password may hold anything.
    """
    if not url.startswith(_WITHOUT_USER):
        url = re.sub(r"(^[a-z0-9+.-]*:(?://)?|^)(.*)@", _mask_user, url, flags=re.DOTALL)
    return re.sub(rf"([?&][^=&]*(?:{_SECRET})[^=&]*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether the value of a parameter of this name is not for everybody's eyes."""
    return re.search(_SECRET, name, flags=re.IGNORECASE) is not None


def is_dead_letter_url(text: str) -> bool:
    """Tell whether dead letters go to a broker, not to a file."""
    return text.startswith(("kafka://", "nats://", "jetstream://"))


def absolute(url: str, base: Path) -> str:
    """Return the URL with a relative path of ``replay:``, or of a sink that is a file, taken from `base`."""
    for scheme in ("replay:", "jsonl:", "parquet:", "arrow:"):
        rest = url.removeprefix(scheme)
        if rest != url and rest and not rest.startswith(("/", "?")):
            path = Path(rest).expanduser() if rest.startswith("~") else base / rest
            return f"{scheme}{path}"
    return url


def check_volume_scale(key: str, scale: int) -> int:
    """Return `scale` if it is a power of ten from 1 to 10^18.

    Raises:
        ConfigError: It is not.
    """
    if scale not in _POWERS_OF_TEN:
        raise ConfigError(f"{key}: must be a power of ten from 1 to 10^18, was {scale}")
    return scale


_TRADES = {"instrument_id": "symbol", "price": "price", "volume": "amount", "timestamp_ns": "timestamp"}
_FORMS = {"tardis": {**_TRADES, "unit": "us"}, "ccxt": {**_TRADES, "unit": "ms"}}
"""Columns of well-known files, and the unit of their times."""
_WITHOUT_USER = ("sim:", "replay:", "jsonl:", "parquet:", "arrow:")
_SECRET = "token|pass|secret|key"
_POWERS_OF_TEN = frozenset(10**n for n in range(19))


def _mask_user(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    # One word alone is a NATS token, hence secret as a whole.
    return f"{match[1]}{user}:***@" if colon else f"{match[1]}***@"


def _parse(role: str, text: str, schemes: Mapping[str, Callable[[_Url], _Parsed]]) -> _Parsed:
    scheme, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigError(f"{role}: must be a URL such as {_EXAMPLES[role]}, was {mask(text)!r}")
    rest, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    url = _Url(role, text, scheme, rest, dict(pairs))
    if len(url.params) < len(pairs):
        url.refuse("a parameter is given twice")
    if scheme not in schemes:
        url.refuse(_unknown_scheme(role, scheme, schemes))
    return schemes[scheme](url)


def _unknown_scheme(role: str, scheme: str, schemes: Mapping[str, object]) -> str:
    allowed = ", ".join(f"{name}:" for name in sorted(schemes))
    if scheme in _LATER[role]:
        return f"{scheme}: is not in this version; allowed: {allowed}"
    if scheme in _SOURCES or scheme in _SINKS:
        return f"{scheme}: is not a {role}; allowed: {allowed}"
    near = difflib.get_close_matches(scheme, schemes, 1)
    return f"unknown scheme {scheme!r}, " + (f"did you mean {near[0]}:?" if near else f"allowed: {allowed}")


def _sim(url: _Url) -> Sim:
    if url.rest not in ("//", "", "///"):
        url.refuse("sim:// has no host or path")
    return Sim(
        **url.values(
            {
                "rate": ("rate", _number_or_max(1e-3, 1e9)),
                "instruments": ("instruments", _whole(1, 65_536)),
                "seed": ("seed", _whole(0, 2**64 - 1)),
                "faults": ("faults", _number(0.0, 1.0)),
                "start": ("start_ns", parse_time_ns),
            }
        )
    )


def _replay(url: _Url) -> Replay:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "pace": ("pace", _number_or_max(1e-3, 1e6)),
        "max_gap": ("max_gap_ns", parse_duration_ns),
        "columns": ("columns", _columns),
        "unit": ("unit", _one_of(*get_args(TimeUnit))),
        "instrument": ("instrument", str),
        "volume_scale": ("volume_scale", _volume_scale),
    }
    values = url.values(names)
    columns = values.pop("columns", None)
    return Replay(path=_path(url), **replay_columns(columns, values.pop("unit", None)), **values)


def replay_columns(columns: dict[str, str] | str | None, unit: str | None) -> dict[str, Any]:
    """Return the fields `columns` and `unit` of `Replay`: a known form of file brings its unit.

    Raises:
        ValueError: The columns are not to be understood.
    """
    if isinstance(columns, str):
        columns = _columns(columns)
    known = columns or {}
    return {"columns": {k: v for k, v in known.items() if k != "unit"}, "unit": unit or known.get("unit", "ns")}


def _columns(text: str) -> dict[str, str]:
    if text in _FORMS:
        return dict(_FORMS[text])
    pairs = [pair.partition(":") for pair in text.split(",")]
    columns = {ours: theirs for ours, colon, theirs in pairs if colon and theirs}
    ours = ("instrument_id", "price", "volume", "timestamp_ns")
    if len(columns) < len(pairs) or not columns.keys() <= set(ours):
        forms = ", ".join(_FORMS)
        raise ValueError(f"must be {forms} or pairs such as volume:amount of {', '.join(ours)}, was {text!r}")
    return columns


def _nats(url: _Url) -> Nats:
    server, subject = _server_and_subject(url)
    return Nats(server=server, subject=subject, **url.values(_PAYLOAD))


def _jetstream(url: _Url) -> JetStream:
    server, subject = _server_and_subject(url)
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "stream": ("stream", _nats_name),
        "durable": ("durable", _nats_name),
    }
    return JetStream(server=server, subject=subject, **url.values({**names, **_PAYLOAD}))


def _grpc(url: _Url) -> Grpc:
    match = re.fullmatch(r"//(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})/?", url.rest)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        url.refuse(f"grpc:// needs a host and a port from 1 to 65535, {_EXAMPLES['grpc']}")
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "token": ("token", str),
        "tls": ("tls", _yes_or_no),
        "ca": ("ca", str),
        "cert": ("cert", str),
        "key": ("key", str),
    }
    values = url.values(names)
    if ("cert" in values) != ("key" in values):
        url.refuse("cert and key go together")
    tls = values.pop("tls", False) or bool(values.keys() & {"ca", "cert"})
    return Grpc(address=f"{match[1]}:{match[2]}", tls=tls, **values)


def _kafka(url: _Url) -> Kafka:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "group": ("group", _kafka_name),
        "instance": ("instance", _kafka_name),
        "start": ("start", _one_of("all", "new")),
        "exactly_once": ("exactly_once", _true_or_false),
    }
    broker, url = _kafka_broker(url)
    return Kafka(**broker, **url.values({**names, **_PAYLOAD}))


def _kafka_sink(url: _Url) -> KafkaSink:
    broker, url = _kafka_broker(url)
    return KafkaSink(**broker, **url.values(_MESSAGES))


def _kafka_broker(url: _Url) -> tuple[dict[str, Any], _Url]:
    """Return what source and sink have in common, and the URL without the settings of librdkafka."""
    authority, _, path = url.rest.removeprefix("//").partition("/")
    user, at, hosts = authority.rpartition("@")
    servers = ",".join(f"{host}:{port}" for host, port in _hosts(url, hosts, 9092))
    topic = unquote(path)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
        url.refuse(f"kafka:// needs a topic of letters, digits, dots, - and _, {_EXAMPLES['kafka']}")
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


def _nats_sink(url: _Url) -> NatsSink:
    server, subject = _server_and_subject(url)
    _check_sink_subject(url, subject)
    return NatsSink(server=server, subject=subject, **url.values(_MESSAGES))


def _jetstream_sink(url: _Url) -> JetStreamSink:
    server, subject = _server_and_subject(url)
    _check_sink_subject(url, subject)
    return JetStreamSink(server=server, subject=subject, **url.values({"stream": ("stream", _nats_name), **_MESSAGES}))


def _check_sink_subject(url: _Url, subject: str) -> None:
    tokens = subject.split(".")
    if ">" in tokens or tokens.count("*") > 1:
        url.refuse(f"{subject!r} must be a subject to publish to; one token * stands for the instrument")


def _jsonl(url: _Url) -> Jsonl:
    return Jsonl(path=_path(url), **url.values({}))


def _parquet(url: _Url) -> Parquet:
    names: dict[str, tuple[str, Callable[[str], Any]]] = {
        "flush": ("flush_ns", _pause),
        "rows": ("rows", _whole(1, 100_000_000)),
    }
    return Parquet(path=_path(url), **url.values(names))


def _arrow(url: _Url) -> Arrow:
    return Arrow(path=_path(url), **url.values({"flush": ("flush_ns", _pause)}))


def _pause(text: str) -> int:
    pause_ns = parse_duration_ns(text)
    if not 10**7 <= pause_ns <= 86_400 * 10**9:
        raise ValueError(f"must be a duration from 10ms to 24h, was {text!r}")
    return pause_ns


def _path(url: _Url) -> str:
    rest = url.rest
    if rest.startswith("//"):
        if not rest.startswith("///"):
            url.refuse(f"{url.scheme}: takes a path, not a host: {url.scheme}:PATH or {url.scheme}:///PATH")
        rest = rest[2:]
    if not rest:
        url.refuse(f"{url.scheme}: needs a path, {_EXAMPLES[url.scheme]}")
    return unquote(rest)


def _server_and_subject(url: _Url) -> tuple[str, str]:
    authority, _, path = url.rest.removeprefix("//").partition("/")
    if "@" in path or "@" in "".join(url.params):
        url.refuse("in a user or password, / ? # and @ must be percent-encoded")
    user, _, hosts = authority.rpartition("@")
    netlocs = [f"{host}:{port}" for host, port in _hosts(url, hosts, 4222)]
    servers = [f"nats://{user}@{netloc}" if user else f"nats://{netloc}" for netloc in netlocs]
    subject = unquote(path)
    if not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", subject):
        url.refuse(f"{url.scheme}:// needs a subject, {_EXAMPLES[url.scheme]}")
    return ",".join(servers), subject


def _hosts(url: _Url, hosts: str, default_port: int) -> list[tuple[str, int]]:
    """Return hosts and ports of a comma-separated list."""
    if not hosts or not url.rest.startswith("//"):
        url.refuse(f"{url.scheme}:// needs a host, {_EXAMPLES[url.scheme]}")
    found = []
    for host in hosts.split(","):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", host)
        if match is None or not 1 <= int(match[2] or default_port) <= 65_535:
            url.refuse(f"{host!r} must be host:port, with a port from 1 to 65535")
        found.append((match[1], int(match[2] or default_port)))
    return found


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, was {text!r}")
        return int(text)

    return read


def _number(low: float, high: float, also: str = "") -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}{also}, was {text!r}")
        return value

    return read


def _number_or_max(low: float, high: float) -> Callable[[str], float | None]:
    number = _number(low, high, " or max")
    return lambda text: None if text == "max" else number(text)


def _yes_or_no(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"must be 0 or 1, was {text!r}")
    return text == "1"


def _true_or_false(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _format(text: str) -> str:
    if text not in get_args(PayloadFormat):
        raise ValueError(f"must be one of {', '.join(get_args(PayloadFormat))}, was {text!r}")
    return text


def _volume_scale(text: str) -> int:
    match = re.fullmatch(r"10{0,18}|1e(\d|1[0-8])", text)
    if match is None:
        raise ValueError(f"must be a power of ten from 1 to 10^18 such as 1e8, was {text!r}")
    return 10 ** int(match[1]) if match[1] else int(text)


def _nats_name(text: str) -> str:
    if not re.fullmatch(r"[^\s.*>/\\]+", text):
        raise ValueError(f"must be a name without blanks, dots, wildcards and slashes, was {text!r}")
    return text


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, was {text!r}")
        return text

    return read


def _kafka_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text):
        raise ValueError(f"must be a name of letters, digits, dots, - and _, was {text!r}")
    return text


_PAYLOAD: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "format": ("format", _format),
    "volume_scale": ("volume_scale", _volume_scale),
}
_MESSAGES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "format": ("format", _format),
    "headers": ("headers", _true_or_false),
}
_SOURCES: Mapping[str, Callable[[_Url], Source]] = {
    "sim": _sim,
    "replay": _replay,
    "nats": _nats,
    "jetstream": _jetstream,
    "grpc": _grpc,
    "kafka": _kafka,
}
_SINKS: Mapping[str, Callable[[_Url], Sink]] = {
    "jsonl": _jsonl,
    "arrow": _arrow,
    "parquet": _parquet,
    "kafka": _kafka_sink,
    "nats": _nats_sink,
    "jetstream": _jetstream_sink,
}
# Named in the design and still to come: a clear word instead of "unknown".
_LATER: Mapping[str, set[str]] = {"source": set(), "sink": set()}
_EXAMPLES = {
    "source": "sim://?rate=5000 or nats://127.0.0.1:4222/ticks",
    "sink": "jsonl:trades.jsonl",
    "replay": "replay:ticks.csv.gz",
    "jsonl": "jsonl:trades.jsonl",
    "parquet": "parquet:/data/trades?flush=15m",
    "arrow": "arrow:trades.arrows",
    "grpc": "grpc://10.0.0.5:50051",
    "kafka": "kafka://127.0.0.1:9092/ticks?group=desk",
    "nats": "nats://127.0.0.1:4222/ticks",
    "jetstream": "jetstream://127.0.0.1:4222/ticks?stream=TICKS",
}
