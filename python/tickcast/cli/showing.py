"""``config`` and ``version``: what is in effect here."""

import contextlib
import platform
import sys

import click

from tickcast import layers
from tickcast.cli.options import COMMON, GRPC, RULES, SOURCE, WEB, configured, read_config_and_origins
from tickcast.errors import ConfigError

__all__ = ["config", "version"]


@click.command(short_help="Show the effective configuration and where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of TOML.")
@configured(*SOURCE, *RULES, *WEB, *GRPC, *COMMON)
def config(as_json: bool, **options: object) -> None:
    """Show the effective configuration, secrets masked.

    Defaults are overridden by tickcast.toml, that by the environment, that by flags. The TOML form names the origin of
    each value and can be saved as tickcast.toml; what has a secret in it is a comment there, to be filled in.
    """
    import msgspec  # noqa: PLC0415

    from tickcast.config import masked  # noqa: PLC0415

    effective, origins = read_config_and_origins(options)
    with contextlib.suppress(ConfigError):  # what to say of rules that can't be chosen is for who runs them
        effective = msgspec.structs.replace(effective, rules=layers.chosen_rules(effective))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(masked(effective))).decode())
    else:
        click.echo(layers.to_toml(effective, origins))


@click.command(short_help="Show the version.")
def version() -> None:
    """Show the version, and those of Python and the platform for reports."""
    from tickcast import __version__  # noqa: PLC0415

    click.echo(f"tickcast {__version__} (Python {platform.python_version()}, {sys.platform} {platform.machine()})")
