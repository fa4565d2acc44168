"""Sources by URL: one module per scheme."""

from tickcast import urls
from tickcast.config import Config
from tickcast.errors import ConfigError
from tickcast.rundir import RunDir
from tickcast.sources.base import (
    Lag,
    LaggingSource,
    LogSource,
    Position,
    RereadSource,
    SavingSource,
    SilentSource,
    Source,
    SourceState,
)
from tickcast.sources.idle import IdleSource
from tickcast.sources.jetstream import StreamSource
from tickcast.sources.nats import SubjectSource
from tickcast.sources.replay import ReplaySource
from tickcast.sources.sim import SimSource

__all__ = [
    "Lag",
    "LaggingSource",
    "LogSource",
    "Position",
    "RereadSource",
    "SavingSource",
    "SilentSource",
    "Source",
    "SourceState",
    "open_source",
    "stated_scale",
]


def open_source(config: Config, lookback_ns: int = 0) -> Source:
    """Return the source that the configuration names; it connects when it is opened.

    Args:
        config: The configuration.
        lookback_ns: How far back the rules remember ticks, ns.

    Raises:
        ConfigError: The URL is wrong.
        FileNotFoundError: ``replay:`` names a file that isn't there.
    """
    if config.source is None:
        return IdleSource()
    url = urls.parse_source(config.source)
    match url:
        case urls.Sim():
            return SimSource(url)
        case urls.Replay():
            return ReplaySource(url, *scales(config, url.volume_scale))
        case urls.Nats():
            return SubjectSource(url, *scales(config, url.volume_scale))
        case urls.JetStream():
            reach_ns = max(config.window.hold_ns, lookback_ns)
            return StreamSource(url, reach_ns, validated_stream(config, url), *scales(config, url.volume_scale))
        case urls.Grpc():
            raise ConfigError(f"source: {urls.mask(config.source)} gives trades that are judged already, not ticks")
        case urls.Kafka():
            return kafka_source(config, url, lookback_ns)


def stated_scale(config: Config) -> int | dict[str, int]:
    """Return what volumes are multiplied by: all of them, or those of single instruments."""
    url = urls.parse_source(config.source) if config.source else None
    of_source: int | None = getattr(url, "volume_scale", None)
    return config.volume_scale if of_source is None else of_source


def kafka_source(config: Config, url: urls.Kafka, lookback_ns: int) -> Source:
    """Return a Kafka source; its client is an optional part, and imported only here.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        from tickcast.kafka import check_settings, instance_name  # noqa: PLC0415
        from tickcast.sources.kafka import KafkaSource  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"source: kafka:// needs an optional part: pip install 'tickcast[kafka]' ({error})") from None
    instance, memory = instance_name(config.run_dir), RunDir(config.run_dir).ownership
    scale = scales(config, url.volume_scale)
    reach_ns = max(config.window.hold_ns, lookback_ns)
    check_settings("source", url, config.kafka_options)
    return KafkaSource(url, config.kafka_options, instance, memory, reach_ns, validated_topic(config, url), *scale)


def validated_topic(config: Config, url: urls.Kafka) -> urls.KafkaSink | None:
    """Return the sink that writes judged trades to the brokers that ticks come from, if there is one."""
    sinks = (urls.parse_sink(sink) for sink in config.sinks)
    return next((sink for sink in sinks if isinstance(sink, urls.KafkaSink) and sink.servers == url.servers), None)


def validated_stream(config: Config, url: urls.JetStream) -> urls.JetStreamSink | None:
    """Return the sink that writes judged trades to the servers that ticks come from, if there is one."""
    sinks = (urls.parse_sink(sink) for sink in config.sinks)
    return next((sink for sink in sinks if isinstance(sink, urls.JetStreamSink) and sink.server == url.server), None)


def scales(config: Config, of_source: int | None) -> tuple[int, dict[str, int]]:
    """Return the volume scale of all instruments, and those of single ones.

    A table of instruments leaves the others at 1; what the source's URL says goes before both.
    """
    if of_source is not None:
        return of_source, {}
    if isinstance(config.volume_scale, dict):
        return 1, config.volume_scale
    return config.volume_scale, {}
