"""``tickcast replay``: judge a recorded file without a network, as fast as possible."""

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from tickcast import urls
from tickcast._core import Batch, Judged, Pending
from tickcast.config import Config
from tickcast.processor.deadletters import DeadLetters
from tickcast.processor.pipeline import Pipeline
from tickcast.recordings import open_recording
from tickcast.sources import scales

__all__ = ["Summary", "replay"]


class Summary(msgspec.Struct):
    """What a replay did."""

    ticks: int = 0
    valid: int = 0
    invalid: int = 0
    unknown: int = 0
    undecodable: int = 0
    first_undecodable: str = ""
    """Why the first of them is."""
    late: int = 0
    seconds: float = 0.0
    shadow: dict[str, int] = {}
    """Of each rule in shadow: the ticks it would have refused."""


async def replay(  # noqa: PLR0917 (the command's options)
    config: Config,
    recorded: urls.Replay,
    output: Path | None,
    format: str,  # noqa: A002 (the command's word)
    dead_letters: Path | None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Judge the file and write its trades.

    Args:
        config: Rules, screen and window.
        recorded: The file, and what its columns mean.
        output: Where trades go; None: standard output.
        format: ``jsonl`` (the plain form) or ``csv``.
        dead_letters: Where undecodable rows go; None: counted only.
        progress: Called with (bytes read, bytes of the file).

    Returns:
        What was judged.

    Raises:
        OSError: The file can't be read, or the output not written.
        SourceError: The file can't be understood.
        ConfigError: An optional part is not installed.
        RuleError: The rule set can't be loaded.
    """
    scale, by_instrument = scales(config, None)
    recording = open_recording(recorded, scale, by_instrument)
    pipeline = Pipeline(config)
    summary, start = Summary(), time.monotonic()
    letters = DeadLetters(dead_letters, truncate=True) if dead_letters else None

    async def batches() -> AsyncIterator[Batch]:
        while (batch := recording.take(None, config.judge.batch_rows)) is not None:
            if progress is not None:
                progress(recording.bytes_read, recording.bytes_total)
            yield batch

    async def begun(batch: Batch, pending: Pending) -> None:
        summary.ticks += batch.rows
        summary.late += pending.late
        if batch.has_undecodable:
            summary.first_undecodable = summary.first_undecodable or batch.undecodable[0][2]
            summary.undecodable += letters.write(batch) if letters else len(batch.undecodable)

    await pipeline.start()
    out = output.open("wb") if output else sys.stdout.buffer
    try:
        if format == "csv":
            out.write(csv_header(pipeline.enrichment_names))
        async for judged in pipeline.run(batches(), live=False, in_flight=config.judge.in_flight, begun=begun):
            write(out, judged, format, pipeline.enrichment_names)
            unknown, valid, invalid = judged.counts
            summary.unknown += unknown
            summary.valid += valid
            summary.invalid += invalid
        out.flush()
        summary.shadow = {rule.name: rule.rejects for rule in pipeline.runner.state().rules if rule.mode == "shadow"}
    except OSError as error:
        if error.filename is None and output is not None and error.strerror:  # a write does not know its file
            error.filename = str(output)
        raise
    finally:
        await pipeline.close()
        if output:
            with contextlib.suppress(OSError):  # what could not be written has been told
                out.close()
        if letters:
            letters.close()
    summary.seconds = time.monotonic() - start
    return summary


def csv_header(enrichments: list[str]) -> bytes:
    """Return the head line of CSV output."""
    columns = ["trade_id", "instrument_id", "price", "volume", "timestamp_ns", "status", "reason", "vwap_20m"]
    return (",".join([*columns, *enrichments]) + "\n").encode()


def write(out: BinaryIO, judged: Judged, format: str, enrichments: list[str]) -> None:  # noqa: A002
    """Write judged trades."""
    out.write(judged.csv_lines() if format == "csv" else judged.json_lines(enrichments))
