"""The one typed configuration: defaults < ``tickcast.toml`` < environment ``TICKCAST_*`` < flags.

Each field carries its default, and under it one line with meaning, unit and range; ``docs/configuration.md`` is made of
these lines. Values are checked once, when a section is constructed, and a wrong one is refused with its key, the value
and what is allowed. Where a value came from (file, variable, flag) is known to `tickcast.layers`.

A processor or gateway started by a supervisor takes the whole configuration from one variable,
``TICKCAST_CONFIG_JSON``: it is then exactly the one that the supervisor checked.
"""

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from tickcast import urls
from tickcast.errors import ConfigError
from tickcast.fields import Duration, Host, LogLevel, Policy, Port, Price, RuleSpec, Scale, Section, size, whole
from tickcast.units import parse_duration_ns

__all__ = [
    "Config",
    "Grpc",
    "Judge",
    "Ready",
    "Screen",
    "Tape",
    "Web",
    "Window",
    "default_run_dir",
    "from_process_env",
    "gateway_hash",
    "load",
    "masked",
    "processor_hash",
    "to_env",
]

PROCESS_VARIABLE = "TICKCAST_CONFIG_JSON"
"""Carries a checked configuration to a child process."""

MAX_CONTROL_SOCKET_PATH = 107


def default_run_dir(env: Mapping[str, str] = os.environ) -> str:
    """Return ``$XDG_RUNTIME_DIR/tickcast/default``, where unset ``/tmp/tickcast-<uid>/default``."""
    base = env.get("XDG_RUNTIME_DIR")
    root = Path(base) / "tickcast" if base else Path("/tmp") / f"tickcast-{os.getuid()}"
    return str(root / "default")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on `host`; an unknown name counts as public."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_mask(key: str, value: str | None) -> None:
    if value == urls.MASK:
        raise ConfigError(f"{key}: is masked, as `tickcast config` shows it: fill the secret in")


class Web(Section, frozen=True):
    """Where clients come in."""

    prefix: ClassVar[str] = "web."

    host: Host = "127.0.0.1"
    """Address to listen on; other than loopback only with `auth_token` or `insecure_public`."""
    port: Port = 3000
    """TCP port of dashboard, WebSocket and HTTP; 0 chooses a free one."""
    workers: Annotated[int, whole(1, 64)] = 1
    """Gateway worker processes; more only pay on machines with more cores."""
    insecure_public: bool = False
    """Listen on a public address without authentication."""
    origins: tuple[str, ...] = ()
    """Browser origins let in besides the gateway's own, such as `https://desk.example`; `*` is any."""
    heartbeat_ms: Annotated[int, whole(100, 60_000)] = 5_000
    """Pause between heartbeats to a quiet client, milliseconds."""
    budget_ms: Annotated[int, whole(1, 1_000)] = 10
    """Time that a trade may wait to ride with others in one frame, milliseconds."""
    pin: bool = False
    """Keep each worker on a core of its own while there are any; cheapens frames that the server sends."""
    direct: bool = True
    """Write frames to the sockets of clients that keep up, past the server's threads; not where there is TLS."""
    max_backlog_bytes: Annotated[int, size(65_536, 2**40, "from 64KiB to 1TiB")] = 4 * 1024 * 1024
    """Bytes that may wait for one slow client; a plain one loses the oldest trades beyond it, others are closed."""
    auth_token: str | None = None
    """Token that clients must send; none lets everybody on loopback in. Secret."""

    def _check_together(self) -> None:
        _refuse_mask("web.auth_token", self.auth_token)
        if not is_loopback(self.host) and not self.auth_token and not self.insecure_public:
            raise ConfigError(
                f"web.host: {self.host} is reachable from other machines; "
                "set web.auth_token, or allow it with --insecure-public"
            )


class Grpc(Section, frozen=True):
    """The gRPC server of the processor."""

    prefix: ClassVar[str] = "grpc."

    host: Host = "127.0.0.1"
    """Address to listen on; other than loopback only with `auth_token`, `tls_client_ca` or `web.insecure_public`."""
    port: Port = 50_051
    """TCP port; 0 chooses a free one."""
    auth_token: str | None = None
    """Token that clients must send as metadata `authorization: Bearer TOKEN`; none lets everybody in. Secret."""
    tls_cert: str | None = None
    """PEM file of the server's certificate and what leads to its root; with `tls_key` it makes the server speak TLS."""
    tls_key: str | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: str | None = None
    """PEM file of the authorities whose certificates clients must show (mutual TLS); none asks for no certificate."""
    keepalive_ms: Annotated[int, whole(1_000, 3_600_000)] = 4_000
    """Pause after which a silent connection is pinged, milliseconds."""
    keepalive_timeout_ms: Annotated[int, whole(100, 600_000)] = 4_000
    """Time for the answer to a ping before the connection is given up, milliseconds."""
    max_message_bytes: Annotated[int, size(1_024, 2**30, "from 1KiB to 1GiB")] = 4 * 1024 * 1024
    """Largest message taken, bytes; a larger one ends its stream with RESOURCE_EXHAUSTED."""
    max_streams: Annotated[int, whole(1, 100_000)] = 1_000
    """Calls under way at once, over all connections; further ones are refused with RESOURCE_EXHAUSTED."""
    drain_ms: Annotated[int, whole(0, 8_000)] = 2_000
    """Time at an orderly stop for streams to get their last answers, milliseconds."""
    publish: bool = False
    """Put the ticks of `ProcessStream` on the tape, through the common windows, like those of a source."""

    @property
    def is_public(self) -> bool:
        """Whether others than this machine get in without showing who they are."""
        return not is_loopback(self.host) and not self.auth_token and not self.tls_client_ca

    def _check_together(self) -> None:
        _refuse_mask("grpc.auth_token", self.auth_token)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("grpc.tls_cert and grpc.tls_key: must be given together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("grpc.tls_client_ca: needs grpc.tls_cert and grpc.tls_key")


class Tape(Section, frozen=True):
    """The ring of judged trades, in shared memory."""

    prefix: ClassVar[str] = "tape."

    bytes: Annotated[int, size(2**20, 2**40, "from 1MiB to 1TiB")] = 256 * 1024 * 1024
    """Size of the tape, bytes; allocated whole at start. 65,536 instruments take 13 MiB of it, before any trade."""
    max_instruments: Annotated[int, whole(1, 1_048_576)] = 65_536
    """Instruments with a code and a last value of their own; further ones ride as text."""


class Window(Section, frozen=True):
    """The sliding VWAP window of each instrument."""

    prefix: ClassVar[str] = "window."

    minutes: Annotated[int, whole(1, 1_440)] = 20
    """Length of the window, minutes of event time."""
    hold: Duration = "40m"
    """How far back trades are held for late ticks, a duration of at least the window's length."""
    max_bytes: Annotated[int, size(2**20, 2**40, "from 1MiB to 1TiB")] | None = None
    """Memory for all windows, bytes; above it the busiest instruments turn to time buckets. None: no bound."""

    checkpoint: Duration = "5s"
    """Pause between two checkpoints of the windows, where the source keeps no log; a duration from 100ms to 1h."""

    @property
    def checkpoint_s(self) -> float:
        """Pause between two checkpoints, seconds."""
        return parse_duration_ns(self.checkpoint) / 1e9

    @property
    def window_ns(self) -> int:
        """Length of the window, ns."""
        return self.minutes * 60_000_000_000

    @property
    def hold_ns(self) -> int:
        """How far back trades are held, ns."""
        return parse_duration_ns(self.hold)

    def _check_together(self) -> None:
        if self.hold_ns < self.window_ns:
            raise ConfigError(f"window.hold: must be at least window.minutes ({self.minutes}m), was {self.hold}")
        if not 0.1 <= self.checkpoint_s <= 3600:
            raise ConfigError(f"window.checkpoint: must be from 100ms to 1h, was {self.checkpoint}")


class Screen(Section, frozen=True):
    """The built-in checks before any rule."""

    prefix: ClassVar[str] = "screen."

    id_min: Annotated[int, whole(1, 64)] = 3
    """Shortest instrument id, characters."""
    id_max: Annotated[int, whole(1, 64)] = 10
    """Longest instrument id, characters."""
    price_min: Price = 0.01
    """Lower end of the price band, itself allowed; quote currency per unit."""
    price_max: Price = 10_000.0
    """Upper end of the price band, itself allowed; quote currency per unit."""
    bands: dict[str, tuple[Price, Price]] = msgspec.field(default_factory=dict)
    """Price bands of single instruments: id to [lower, upper]."""
    max_ahead: Duration = "5m"
    """How far a live tick's time may be ahead of its arrival, a duration."""

    @property
    def max_ahead_ns(self) -> int:
        """How far a live tick's time may be ahead of its arrival, ns."""
        return parse_duration_ns(self.max_ahead)

    def _check_together(self) -> None:
        if self.id_min > self.id_max:
            raise ConfigError(f"screen.id_min: must be at most screen.id_max ({self.id_max}), was {self.id_min}")
        if self.price_min > self.price_max:
            raise ConfigError(
                f"screen.price_min: must be at most screen.price_max ({self.price_max}), was {self.price_min}"
            )
        for instrument, (low, high) in self.bands.items():
            if low > high:
                raise ConfigError(f"screen.bands.{instrument}: must be [lower, upper], was [{low}, {high}]")


class Judge(Section, frozen=True):
    """How the user's rules are run."""

    prefix: ClassVar[str] = "judge."

    rule_workers: Annotated[int, whole(0, 64)] = 1
    """Processes for the rules, besides two warm spares; 0 runs them inside the processor, without deadline."""
    deadline_ms: Annotated[int, whole(1, 60_000)] = 250
    """Time for a batch (for async per-tick rules: for a tick) before its worker is replaced, milliseconds."""
    policy: Policy = "fail-closed"
    """Verdict on ticks whose rule is unavailable: fail-closed says INVALID, fail-open UNKNOWN."""
    concurrency: Annotated[int, whole(1, 100_000)] = 256
    """Async per-tick rules under way at once within a batch."""
    batch_rows: Annotated[int, whole(1, 65_535)] = 4_096
    """Most ticks handed to the rules in one batch."""
    gather_ms: Annotated[int, whole(0, 1_000)] = 3
    """Least time from one batch to the next while ticks keep coming, milliseconds; a lone tick never waits."""
    in_flight: Annotated[int, whole(1, 1_024)] = 8
    """Batches handed to the rules and not yet judged."""

    @property
    def deadline_s(self) -> float:
        """Time for a batch, seconds."""
        return self.deadline_ms / 1_000


class Ready(Section, frozen=True):
    """What ``/health/ready`` demands."""

    prefix: ClassVar[str] = "ready."

    require_fresh: bool = False
    """Answer 503 also for a stale source or an open breaker."""


class Config(Section, frozen=True):
    """The whole configuration."""

    source: str | None = None
    """Where ticks come from, a URL; none: from clients alone, and a gateway shows the tape of its run directory."""
    follow: bool = False
    """Take the messages of the source (`kafka://`, `jetstream://`) for judged trades, and follow them."""
    sinks: tuple[str, ...] = ()
    """Where trades are also written, URLs."""
    rules: RuleSpec | None = None
    """The rule set: `module:attribute`, or an installed one's name; none: the only installed one, else the screen."""
    run_dir: Annotated[str, Meta(min_length=1, description="a directory")] = msgspec.field(
        default_factory=default_run_dir
    )
    """Directory of tape, locks, control socket and dead letters, private to the user; one per running tickcast."""
    web: Web = Web()
    """See the section `web`."""
    grpc: Grpc = Grpc()
    """See the section `grpc`."""
    tape: Tape = Tape()
    """See the section `tape`."""
    window: Window = Window()
    """See the section `window`."""
    screen: Screen = Screen()
    """See the section `screen`."""
    judge: Judge = Judge()
    """See the section `judge`."""
    ready: Ready = Ready()
    """See the section `ready`."""
    volume_scale: Scale | dict[str, Scale] = 1
    """Volumes are multiplied by this power of ten; one number, or a table of instruments (others: 1)."""
    kafka_options: dict[str, str] = msgspec.field(default_factory=dict)
    """Settings of librdkafka for every `kafka://` source and sink, such as `security.protocol`; a URL's go before."""
    dead_letters: str | None = None
    """File, or URL of a broker, for what can't be decoded; none: `dead-letters.jsonl` in the run directory."""
    log_level: LogLevel = "info"
    """Least serious message that is logged."""

    def _check_together(self) -> None:
        if self.source is not None:
            urls.parse_source(self.source)
        for sink in self.sinks:
            urls.parse_sink(sink)
        self._check_transactions()
        self._check_follow()
        if self.dead_letters and urls.is_dead_letter_url(self.dead_letters):
            urls.parse_sink(self.dead_letters)
        for name, value in self.kafka_options.items():
            if urls.is_secret(name):
                _refuse_mask(f"kafka_options.{name}", value)
        scales = self.volume_scale.values() if isinstance(self.volume_scale, dict) else [self.volume_scale]
        for scale in scales:
            urls.check_volume_scale("volume_scale", scale)
        if self.grpc.is_public and not self.web.insecure_public:
            raise ConfigError(
                f"grpc.host: {self.grpc.host} is reachable from other machines; set grpc.auth_token or "
                "grpc.tls_client_ca, or allow it with --insecure-public"
            )
        socket_path = os.fsencode(Path(self.run_dir) / "control.sock")
        if len(socket_path) > MAX_CONTROL_SOCKET_PATH:
            raise ConfigError(
                f"run_dir: must be shorter, a socket's path has at most {MAX_CONTROL_SOCKET_PATH} bytes and "
                f"{self.run_dir}/control.sock has {len(socket_path)}"
            )

    def _check_transactions(self) -> None:
        source = urls.parse_source(self.source) if self.source else None
        if isinstance(source, urls.Kafka) and source.exactly_once:
            sinks = [sink for sink in map(urls.parse_sink, self.sinks) if isinstance(sink, urls.KafkaSink)]
            if len(self.sinks) != 1 or len(sinks) != 1:
                raise ConfigError(
                    "source: exactly_once=true needs one sink, kafka:// on the same brokers: "
                    f"positions and trades are committed in one transaction; there are {len(self.sinks)} sinks"
                )

    def _check_follow(self) -> None:
        source = urls.parse_source(self.source) if self.source else None
        if not self.follow or isinstance(source, urls.Grpc):
            return
        if not isinstance(source, urls.Kafka | urls.JetStream):
            raise ConfigError("source: a topic of judged trades is kafka://, jetstream:// or grpc://HOST:PORT")
        unfit = "durable" if isinstance(source, urls.JetStream) and source.durable else None
        if isinstance(source, urls.Kafka) and source.exactly_once:
            unfit = "exactly_once"
        if unfit is not None or source.volume_scale is not None:
            raise ConfigError(
                f"source: {unfit or 'volume_scale'} is for ticks; a gateway reads trades as they are, and its place "
                "stands on its tape"
            )

    @property
    def dead_letters_path(self) -> Path:
        """File for what can't be decoded, or for what of it a broker refuses."""
        if self.dead_letters and not urls.is_dead_letter_url(self.dead_letters):
            return Path(self.dead_letters)
        return Path(self.run_dir) / "dead-letters.jsonl"


def load(
    flags: Mapping[str, Any] | None = None, *, file: Path | None = None, env: Mapping[str, str] = os.environ
) -> Config:
    """Return the effective configuration.

    Args:
        flags: Values from the command line by dotted key (``web.port``) or nested; None values are not given.
        file: A TOML file; without it ``$TICKCAST_CONFIG``, else ``tickcast.toml`` in the working directory if there.
        env: The environment.

    Raises:
        ConfigError: An unknown key or a wrong value, named with what is allowed.
    """
    from tickcast import layers  # noqa: PLC0415  # layers needs the sections above

    return layers.load(flags or {}, file=file, env=env)[0]


def to_env(config: Config) -> dict[str, str]:
    """Return the variables that hand `config` to a child process."""
    return {PROCESS_VARIABLE: msgspec.json.encode(config).decode()}


def from_process_env(env: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that the parent handed over, else the one of file and environment.

    Raises:
        ConfigError: A wrong value.
    """
    text = env.get(PROCESS_VARIABLE)
    if text is None:
        return load({}, env=env)
    try:
        return msgspec.json.decode(text, type=Config)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{PROCESS_VARIABLE}: {error}") from None


def processor_hash(config: Config) -> str:
    """Return 16 hex digits that are equal where a running processor serves `config` as it is.

    The port is left out: who asks for port 0 takes any, so it is compared with the announced one.
    """
    web = Web(insecure_public=config.web.insecure_public)
    grpc = msgspec.structs.replace(config.grpc, port=0)
    return _hash(msgspec.structs.replace(config, web=web, grpc=grpc, ready=Ready(), log_level="info"))


def gateway_hash(config: Config) -> str:
    """Return 16 hex digits that are equal where a running gateway serves `config` as it is.

    The port is left out: who asks for port 0 takes any, so it is compared with the announced one.
    """
    web = msgspec.structs.replace(config.web, port=0)
    return _hash(Config(run_dir=config.run_dir, web=web, ready=config.ready))


def _hash(config: Config) -> str:
    return hashlib.sha256(msgspec.json.encode(config, order="sorted")).hexdigest()[:16]


def masked(config: Config) -> dict[str, Any]:
    """Return `config` as plain values, with its secrets replaced by `urls.MASK`."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    plain["source"] = urls.mask(config.source) if config.source else None
    plain["dead_letters"] = urls.mask(config.dead_letters) if config.dead_letters else None
    plain["sinks"] = [urls.mask(sink) for sink in config.sinks]
    for name in plain["kafka_options"]:
        if urls.is_secret(name):
            plain["kafka_options"][name] = urls.MASK
    for section in ("web", "grpc"):
        if plain[section]["auth_token"]:
            plain[section]["auth_token"] = urls.MASK
    return plain
