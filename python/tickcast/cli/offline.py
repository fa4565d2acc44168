"""``replay``: a recorded file judged offline."""

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Protocol, get_args

import click

from tickcast import urls
from tickcast.cli.options import COMMON, RULES, configured, read_config, with_rules
from tickcast.errors import ConfigError

__all__ = ["replay"]


@click.command(short_help="Judge a recorded file offline, as fast as possible.")
@click.argument("path", metavar="PATH")
@click.option("--output", metavar="FILE|-", default="-", show_default=True, help="Where the trades go; - is stdout.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="jsonl: one trade a line, in the form that web clients get.",
)
@click.option(
    "--columns",
    metavar="NAMES",
    help="What the file calls them: volume:amount,timestamp_ns:timestamp; or tardis, ccxt.",
)
@click.option("--unit", type=click.Choice(get_args(urls.TimeUnit)), help="Unit of the file's times.  [default: ns]")
@click.option("--instrument", metavar="ID", help="The one instrument of a file that has no column of them.")
# Not the configuration's: its file is a running processor's, and a replay begins its own anew.
@click.option(
    "--dead-letters",
    "letters",
    metavar="FILE",
    help="File for rows that can't be decoded, begun anew; none: they are counted.",
)
@configured(*RULES, "volume_scale", *COMMON)
def replay(  # noqa: PLR0917 (the command's options)
    path: str,
    output: str,
    format_: str,
    columns: str | None,
    unit: str | None,
    instrument: str | None,
    letters: str | None,
    **options: object,
) -> None:
    """Judge a recorded file offline, as fast as possible and without a network, and write each trade in order.

    PATH is CSV with the header `instrument_id,price,volume,timestamp_ns`, gzip'd or not, or with other columns
    (--columns); Parquet, or a directory that `parquet:` has written; an Arrow stream; Databento's DBN. A summary goes
    to stderr.
    `tickcast serve --source replay:PATH` plays the file to clients instead.
    """
    config = read_config(options)
    recording = Path(path)
    if not recording.exists():
        raise ConfigError(f"PATH: no file {path}")
    if letters and urls.is_dead_letter_url(letters):
        raise ConfigError(f"--dead-letters: must be a file, was {urls.mask(letters)}")
    try:
        meant = urls.replay_columns(columns, unit)
    except ValueError as error:
        raise ConfigError(f"--columns {error}") from None
    config = with_rules(config)
    if config.rules is None:
        click.echo("tickcast: no rule set given (--rules): ticks are judged by the built-in screen alone", err=True)
    offline = importlib.import_module("tickcast.processor.offline")
    with _Progress(recording.name, shown=sys.stderr.isatty() and output != "-") as progress:
        summary = asyncio.run(
            offline.replay(
                config,
                urls.Replay(path=path, instrument=instrument, **meant),
                None if output == "-" else Path(output),
                format_,
                Path(letters) if letters else None,
                progress.update,
            )
        )
    click.echo(_summary_line(summary), err=True)


class _Summary(Protocol):
    """What a replay did; `tickcast.processor.offline.Summary`, whose module is imported only when it is needed."""

    ticks: int
    valid: int
    invalid: int
    unknown: int
    undecodable: int
    first_undecodable: str
    late: int
    seconds: float
    shadow: dict[str, int]


def _summary_line(summary: _Summary) -> str:
    judged = f"{summary.ticks:,} ticks in {summary.seconds:.2f} s"
    rate = f" ({summary.ticks / summary.seconds:,.0f}/s)" if summary.seconds > 0 else ""
    counts = [f"{name} {getattr(summary, name):,}" for name in ("valid", "invalid", "unknown", "undecodable", "late")]
    shadow = "".join(f"\ntickcast: in shadow, {rule} would have refused {n:,}" for rule, n in summary.shadow.items())
    first = f"\ntickcast: the first undecodable row: {summary.first_undecodable}" if summary.undecodable else ""
    return f"tickcast: {judged}{rate}: {', '.join(counts)}{first}{shadow}"


class _Progress:
    """A progress bar on stderr, or nothing."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self._name = name
        self._shown = shown

    def __enter__(self) -> "_Progress":
        if self._shown:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None)
        return self

    def update(self, done: int, total: int) -> None:
        """Show how many bytes of the file have been read."""
        if self._shown:
            self._bar.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()
