"""Sinks by URL: one module per scheme."""

import hashlib
from pathlib import Path

from tickcast import urls
from tickcast._core import Hold, TapeWriter
from tickcast.config import Config
from tickcast.errors import ConfigError
from tickcast.processor.progress import Progress
from tickcast.processor.traces import Traces
from tickcast.sinks.base import Sink
from tickcast.sinks.jsonl import JsonlSink
from tickcast.sinks.nats import NatsSink
from tickcast.sources.base import Source

__all__ = ["Sink", "open_sink"]

MAX_NAME_BYTES = 240


def open_sink(  # noqa: PLR0917 (made in one place)
    url: str,
    writer: TapeWriter,
    config: Config,
    source: Source | None = None,
    progress: Progress | None = None,
    traces: Traces | None = None,
) -> Sink:
    """Return the sink, holding its place on the tape.

    Args:
        url: The sink.
        writer: The tape.
        config: The configuration.
        source: Where the trades' ticks come from, if they are judged here: a log tells which of them are to be written.
        progress: Which positions the tape has by which sequence.
        traces: The trace contexts that ticks came with.

    Raises:
        ConfigError: The URL is wrong, or the sink's file can't be opened.
    """
    try:
        return _open(urls.parse_sink(url), url, writer, config, source, progress, traces or Traces())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ConfigError(f"sinks: {urls.mask(url)}: cannot be opened: {where}{error.strerror or error}") from None


def _open(  # noqa: PLR0917 (made in one place)
    parsed: urls.Sink,
    url: str,
    writer: TapeWriter,
    config: Config,
    source: Source | None,
    progress: Progress | None,
    traces: Traces,
) -> Sink:
    match parsed:
        case urls.Jsonl():
            path = Path(parsed.path)
            return JsonlSink(path, writer.hold(f"jsonl:{path.absolute()}"))
        case urls.Arrow() | urls.Parquet():
            return column_sink(parsed, writer)
        case urls.NatsSink() | urls.JetStreamSink():
            return NatsSink(parsed, writer.hold(hold_name(url)), traces)
        case urls.KafkaSink():
            return kafka_sink(parsed, writer.hold(hold_name(url)), traces, config, source, progress)


def column_sink(url: urls.Arrow | urls.Parquet, writer: TapeWriter) -> Sink:
    """Return a sink that writes columns; pyarrow is an optional part, and imported only here.

    Raises:
        ConfigError: It is not installed, or the sink's files are not what they have to be.
        OSError: They can't be written.
    """
    scheme = "arrow" if isinstance(url, urls.Arrow) else "parquet"
    try:
        from tickcast.sinks.columns import arrow_sink, parquet_sink  # noqa: PLC0415
    except ImportError as error:
        extra = f"pip install 'tickcast[{scheme}]' ({error})"
        raise ConfigError(f"sinks: {scheme}: needs an optional part: {extra}") from None
    hold = writer.hold(hold_name(f"{scheme}:{Path(url.path).absolute()}"))
    epoch = f"{writer.epoch:016x}"
    return arrow_sink(url, hold, epoch) if isinstance(url, urls.Arrow) else parquet_sink(url, hold, epoch)


def hold_name(url: str) -> str:
    """Return the name under which the tape remembers a sink's place: its URL without secrets, of bounded length."""
    shown = urls.mask(url)
    return shown if len(shown.encode()) <= MAX_NAME_BYTES else hashlib.sha256(shown.encode()).hexdigest()


def kafka_sink(  # noqa: PLR0917 (made in one place)
    url: urls.KafkaSink,
    hold: Hold,
    traces: Traces,
    config: Config,
    source: Source | None,
    progress: Progress | None,
) -> Sink:
    """Return a Kafka sink: by transactions, if the source is to be read exactly once.

    Raises:
        ConfigError: The client is not installed, or it does not know a setting.
    """
    try:
        from tickcast.kafka import check_settings  # noqa: PLC0415 (an optional part)
        from tickcast.sinks.kafka import KafkaSink, TransactionalKafkaSink  # noqa: PLC0415
        from tickcast.sources.kafka import KafkaSource  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"sinks: kafka:// needs an optional part: pip install 'tickcast[kafka]' ({error})") from None
    check_settings("sinks", url, config.kafka_options)
    if not isinstance(source, KafkaSource):
        return KafkaSink(url, config.kafka_options, hold, traces, None)
    if source.commits or progress is None:
        return KafkaSink(url, config.kafka_options, hold, traces, source.ownership)
    return TransactionalKafkaSink(url, config.kafka_options, hold, traces, source, progress, source.transactional_id)
