"""Sinks by URL: one module per scheme."""

from pathlib import Path

from tickcast import urls
from tickcast._core import TapeWriter
from tickcast.sinks.base import Sink
from tickcast.sinks.jsonl import JsonlSink

__all__ = ["Sink", "open_sink"]


def open_sink(url: str, writer: TapeWriter) -> Sink:
    """Return the sink, holding its place on the tape.

    Raises:
        ConfigError: The URL is wrong.
        OSError: The sink's file can't be opened.
    """
    parsed = urls.parse_sink(url)
    match parsed:
        case urls.Jsonl():
            path = Path(parsed.path)
            return JsonlSink(path, writer.hold(f"jsonl:{path.absolute()}"))
