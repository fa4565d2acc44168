"""The command ``tickcast``.

Commands only translate: options to the configuration, errors to one line and an exit code (`tickcast.exits`). What a
command does is imported when it runs, so that ``tickcast --help`` does not pay for NumPy or a web server.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from tickcast import exits
from tickcast.cli.dlq import dlq
from tickcast.cli.live import send, tail
from tickcast.cli.offline import replay
from tickcast.cli.running import demo, gateway, process, serve
from tickcast.cli.showing import config, version

__all__ = ["main", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def commands() -> None:
    """A tick goes in, your Python rules judge it, and every screen shows the verdict within milliseconds.

    \b
    Try it:          tickcast demo
    Your own queue:  tickcast serve --source nats://127.0.0.1:4222/ticks --rules desk:rules

    Every option can also be given in tickcast.toml or as an environment variable; `tickcast config` shows what is in
    effect and where it came from. Exit codes: 0 done, 2 wrong usage or configuration, 1 failed, 130 broken off by
    Ctrl-C (serve, process, gateway and demo end in order by it, with 0).
    """  # noqa: D301 (click reads the character)


for command in (demo, serve, process, gateway, replay, tail, send, dlq, config, version):
    commands.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(exits.guarded(lambda: run(sys.argv[1:])))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; wrong usage is told in one line."""
    try:
        # Not click's own main: it answers interrupts and closed pipes in its way, `exits.guarded` does in ours.
        with commands.make_context("tickcast", list(arguments)) as context:
            commands.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return exits.WRONG_USAGE
    except click.ClickException as error:
        place = getattr(error, "ctx", None)
        hint = f" (see `{place.command_path} --help`)" if place else ""
        text = " ".join(error.format_message().split())
        click.echo(f"tickcast: error: {text}{hint}", err=True)
        return error.exit_code
    return exits.DONE
