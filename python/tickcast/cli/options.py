"""Options that stand for keys of the configuration, made from the one table of keys.

Values are handed on as text: what is allowed is checked in one place, for file, environment and flags alike.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from tickcast import layers
from tickcast.config import Config
from tickcast.errors import ConfigError

__all__ = ["COMMON", "GRPC", "RULES", "SOURCE", "WEB", "configured", "read_config", "with_rules"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SOURCE = ("source", "sinks", "volume_scale", "dead_letters")
RULES = ("rules", "judge.rule_workers", "judge.deadline_ms", "judge.policy", "window.hold")
WEB = ("web.host", "web.port", "web.workers", "web.insecure_public")
GRPC = ("grpc.host", "grpc.port")
COMMON = ("run_dir", "log_level")

_METAVARS = {
    "source": "URL",
    "sinks": "URL",
    "rules": "MODULE:ATTRIBUTE|NAME",
    "run_dir": "DIR",
    "web.host": "HOST",
    "grpc.host": "HOST",
    "window.hold": "DURATION",
    "judge.policy": "fail-closed|fail-open",
    "dead_letters": "FILE",
    "log_level": "LEVEL",
}


def configured(*keys: str, **helps: str) -> Callable[[Decorated], Decorated]:
    """Give a command the options of these keys, ``--config`` and ``--set``; `read_config` reads them.

    `helps` are texts for keys that mean something of their own to the command.
    """

    def decorate(function: Decorated) -> Decorated:
        options = [_option(key, helps.get(_parameter(key), "")) for key in keys]
        options += [
            click.option(
                "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the configuration."
            ),
            click.option(
                "--config",
                "config_file",
                metavar="FILE",
                help="Configuration file; default: tickcast.toml if it is there.",
            ),
        ]
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def read_config(options: Mapping[str, object]) -> Config:
    """Return the effective configuration of a command's options.

    Raises:
        ConfigError: A wrong value.
    """
    return read_config_and_origins(options)[0]


def read_config_and_origins(options: Mapping[str, object]) -> tuple[Config, dict[str, str]]:
    """Return the effective configuration, and where each value that is no default came from."""
    flags: dict[str, Any] = {}
    settings, named_file = options["settings"], options["config_file"]
    for setting in settings if isinstance(settings, tuple) else ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set: must be KEY=VALUE, was {setting!r}")
        flags[key.strip()] = value
    for key in layers.FLAGS:
        value = options.get(_parameter(key))
        if value not in (None, (), False):
            flags[key] = list(value) if isinstance(value, tuple) else value
    return layers.load(flags, file=Path(str(named_file)) if named_file else None, env=os.environ)


def with_rules(config: Config) -> Config:
    """Return the configuration with the rule set that judges; one whose module is not there is refused.

    Rules are found in the working directory too, as `python -m` would.

    Raises:
        ConfigError: There is no such rule set or module, or its package can't be imported.
    """
    config = msgspec.structs.replace(config, rules=layers.chosen_rules(config))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if config.rules is None:
        return config
    module = config.rules.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"rules: no module named {error.name!r} ({config.rules})") from None
    except Exception as error:
        raise ConfigError(
            f"rules: importing the package of {module!r} raised {type(error).__name__}: {error}"
        ) from None
    if found is None:
        raise ConfigError(f"rules: no module named {module!r} ({config.rules})")
    return config


def _option(key: str, text: str) -> Callable[[Decorated], Decorated]:
    flag = layers.FLAGS[key]
    notes = [f"env {layers.variable(key)}"]
    default = layers.default_text(key)
    notes += [f"default {default}"] if default else []
    help_text = f"{text or layers.documentation()[key]}  [{'; '.join(notes)}]".replace("`", "")
    if key == "web.insecure_public":
        return click.option(flag, _parameter(key), is_flag=True, help=help_text)
    metavar = _METAVARS.get(key, "N")
    return click.option(flag, _parameter(key), metavar=metavar, multiple=key == "sinks", help=help_text)


def _parameter(key: str) -> str:
    return key.replace(".", "__")
