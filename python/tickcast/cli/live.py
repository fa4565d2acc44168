"""``tail``: the trades of a running gateway in the terminal."""

import asyncio
import sys

import click

from tickcast.cli.options import configured, read_config

__all__ = ["tail"]


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

    URL is the gateway's address (http:// or ws://); without it the gateway of this machine's run directory is asked. A
    lost connection is taken up again where it broke; trades that can't be had any more are announced on stderr.
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
