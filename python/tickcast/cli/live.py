"""``tail``: the trades of a running tickcast in the terminal. ``send``: ticks to it, and verdicts back."""

import asyncio
import sys

import click

from tickcast import exits
from tickcast.cli.options import configured, read_config

__all__ = ["send", "tail"]


@click.command(short_help="Watch the trades of a running gateway.")
@click.argument("url", metavar="[URL]", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON lines; also what a pipe or file gets.")
@click.option(
    "-i", "--instrument", "instruments", multiple=True, metavar="ID", help="Only this instrument; repeatable."
)
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["VALID", "INVALID", "UNKNOWN"], case_sensitive=False),
    help="Only this status; repeatable.",
)
@click.option(
    "--from", "from_seq", type=click.IntRange(1), metavar="SEQ", help="Begin with this sequence if still held."
)
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after N trades.")
@configured("run_dir")
def tail(
    *,
    url: str | None,
    as_json: bool,
    instruments: tuple[str, ...],
    statuses: tuple[str, ...],
    from_seq: int | None,
    count: int | None,
    **options: object,
) -> None:
    """Watch the trades of a running gateway: a live table on a terminal, JSON lines elsewhere.

    URL is the address of a gateway (http:// or ws://) or of a processor (grpc://HOST:PORT); without it the gateway of
    this machine's run directory is asked. A lost connection is taken up again where it broke; trades that can't be had
    any more are announced on stderr.
    """
    from tickcast import tail as watching  # noqa: PLC0415

    config = read_config(options)
    subscription = watching.Subscription(
        url=watching.socket_url(url, config),
        instruments=instruments,
        statuses=tuple(status.upper() for status in statuses),
        from_seq=from_seq,
        token=config.web.auth_token,
    )
    show = watching.print_lines if as_json or not sys.stdout.isatty() else watching.show_table
    asyncio.run(show(subscription, count))


@click.command(short_help="Send ticks from a file or stdin, and show their verdicts.")
@click.argument("url", metavar="URL")
@click.argument("path", metavar="[FILE]", required=False, default="-")
@configured("run_dir")
def send(*, url: str, path: str, **options: object) -> None:
    """Send ticks to a running tickcast and print each verdict as a JSON line, in order; a summary goes to stderr.

    URL is a processor's (grpc://HOST:PORT: the stream has windows of its own), or a gateway's (http:// or ws://: judged
    against the shared windows without entering them, at most 200 a second). FILE, or stdin, holds CSV with the header
    instrument_id,price,volume,timestamp_ns (gzip'd or not), or JSON lines.
    """
    from tickcast import send as sending  # noqa: PLC0415

    config = read_config(options)
    failed = asyncio.run(sending.send(url, path, token=config.web.auth_token))
    if failed:
        raise SystemExit(exits.FAILED)
