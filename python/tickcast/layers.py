"""The layers of the configuration: file, environment and flags laid over the defaults, each value with its origin.

Keys are dotted (``web.port``). The variable of a key is ``TICKCAST_`` and the key in capitals, dots as underscores. A
variable that nobody knows is refused like a key that nobody knows, with the nearest one suggested: a misspelt
``TICKCAST_WINDOW_HOLT`` must not leave the default in place unnoticed.
"""

import ast
import difflib
import importlib.metadata
import inspect
import itertools
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from tickcast import config, urls
from tickcast.errors import ConfigError
from tickcast.fields import Section, check, fields, is_compound, is_list, is_size
from tickcast.units import parse_bytes

__all__ = [
    "FLAGS",
    "RULES_GROUP",
    "all_keys",
    "chosen_rules",
    "default_text",
    "documentation",
    "load",
    "to_toml",
    "variable",
]

FLAGS: Mapping[str, str] = {
    "source": "--source",
    "sinks": "--sink",
    "rules": "--rules",
    "run_dir": "--run-dir",
    "web.host": "--host",
    "web.port": "--port",
    "web.workers": "--workers",
    "web.insecure_public": "--insecure-public",
    "grpc.host": "--grpc-host",
    "grpc.port": "--grpc-port",
    "judge.rule_workers": "--rule-workers",
    "judge.deadline_ms": "--deadline-ms",
    "judge.policy": "--policy",
    "window.hold": "--window-hold",
    "volume_scale": "--volume-scale",
    "dead_letters": "--dead-letters",
    "log_level": "--log-level",
}
"""Keys with a flag of their own; ``--set KEY=VALUE`` reaches the others."""

RULES_GROUP = "tickcast.rules"
"""Entry point group in which an installed package registers a rule set."""

FILE_VARIABLE = "TICKCAST_CONFIG"
DEFAULT_FILE = "tickcast.toml"
# Variables of our processes, tests and tools, which are not configuration.
_OTHER_VARIABLES = frozenset(
    {
        FILE_VARIABLE,
        config.PROCESS_VARIABLE,
        "TICKCAST_SUPERVISED",
        "TICKCAST_GATEWAY",
        "TICKCAST_NATS_SERVER",
        "TICKCAST_CACHE_DIR",
        "TICKCAST_NATS_WHEEL",
        "TICKCAST_NATS_GO",
    }
)
_OTHER_PREFIXES = ("TICKCAST_TEST_", "TICKCAST_BENCH_")


class Setting(msgspec.Struct, frozen=True):
    """A value as it was given, and by whom."""

    value: Any
    origin: str
    """Where it was given, for messages."""
    is_text: bool = False
    """From the environment or a flag: numbers and lists come as text."""


def all_keys() -> dict[str, Any]:
    """Return every dotted key with its annotated type, in the order of `config.Config`."""
    return dict(_keys(config.Config))


def variable(key: str) -> str:
    """Return the environment variable of a key."""
    return "TICKCAST_" + key.upper().replace(".", "_")


def documentation() -> dict[str, str]:
    """Return the line that stands under each field, by dotted key."""
    return {key: line for section in _sections() for key, line in _documentation(section).items()}


def default_text(key: str) -> str:
    """Return a key's default for people, empty if it is none or nothing."""
    if key == "run_dir":
        return "$XDG_RUNTIME_DIR/tickcast/default, else /tmp/tickcast-<uid>/default"
    head, _, name = key.rpartition(".")
    plain = msgspec.to_builtins(config.Config())
    value = plain[head][name] if head else plain[name]
    return "" if value in (None, (), {}) or value is False else str(value)


def load(
    flags: Mapping[str, Any], *, file: Path | None, env: Mapping[str, str]
) -> tuple[config.Config, dict[str, str]]:
    """Return the effective configuration, and where each value that is no default came from.

    Raises:
        ConfigError: An unknown key or a wrong value.
    """
    settings: dict[str, Setting] = {}
    path = file or _file_of(env)
    if path is not None:
        settings |= _from_file(path)
    settings |= _from_env(env)
    settings |= _from_flags(flags)
    kinds = all_keys()
    tree: dict[str, Any] = {"run_dir": config.default_run_dir(env)}
    for key, setting in settings.items():
        _put(tree, key, _convert(key, setting, kinds[key]))
    _resolve(tree, Path.cwd())
    values: dict[str, Any] = {
        name: kind(**tree.get(name, {})) if _is_section(kind) else tree[name]
        for name, kind in fields(config.Config).items()
        if _is_section(kind) or name in tree
    }
    return config.Config(**values), {key: setting.origin for key, setting in settings.items()}


def chosen_rules(effective: config.Config) -> str | None:
    """Return the rule set that judges as ``module:attribute``, looked up where it is the name of an installed one.

    Without any it is the one that an installed package registers. Only who runs rules asks: to others it is no matter
    that several packages register some.

    Raises:
        ConfigError: No installed rule set has this name, or several are installed and none is chosen.
    """
    spec = effective.rules
    if spec is not None and ":" in spec:
        return spec
    registered = {entry.name: entry.value for entry in importlib.metadata.entry_points(group=RULES_GROUP)}
    names = ", ".join(sorted(registered)) or "none"
    if spec is not None:
        if spec not in registered:
            raise ConfigError(
                f"rules: no installed rule set is named {spec!r} (installed: {names}); "
                f"one of a module is module:attribute, such as {spec}:rules"
            )
        return registered[spec]
    if len(set(registered.values())) > 1:
        raise ConfigError(f"rules: several rule sets are installed, choose one with --rules: {names}")
    return next(iter(registered.values()), None)


def to_toml(effective: config.Config, origins: Mapping[str, str]) -> str:
    """Return the configuration as TOML, each value with its origin as a comment.

    What has a masked secret in it is a comment as a whole, so that the text can be saved as a file.
    """
    shown, plain = config.masked(effective), msgspec.to_builtins(effective)
    lines: list[str] = []
    section = ""
    for key in sorted(all_keys(), key=lambda k: "." in k):
        head, _, name = key.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        value, unmasked = (tree[head][name] if head else tree[name] for tree in (shown, plain))
        line = f"{name} =" if value is None else f"{name} = {_toml(value)}"
        note = origins.get(key, "default")
        if value is None:
            line = f"# {line}"
        elif _toml(value) != _toml(unmasked):
            line, note = f"# {line}", f"{note}; masked: fill it in, or set {variable(key)}"
        lines.append(f"{line}  # {note}")
    return "\n".join(lines)


def _sections() -> Iterator[type[Section]]:
    yield config.Config
    yield from (kind for kind in fields(config.Config).values() if _is_section(kind))


@cache
def _documentation(section: type[Section]) -> dict[str, str]:
    """Read the docstring lines under the fields, which Python itself does not keep."""
    body = ast.parse(inspect.getsource(section)).body[0]
    found = {}
    for field, line in itertools.pairwise(body.body if isinstance(body, ast.ClassDef) else []):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(line, ast.Expr):
            found[section.prefix + field.target.id] = ast.literal_eval(line.value)
    return found


def _is_section(kind: object) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _keys(section: type[Section]) -> Iterator[tuple[str, Any]]:
    for name, kind in fields(section).items():
        if _is_section(kind):
            yield from _keys(kind)
        else:
            yield section.prefix + name, kind


def _file_of(env: Mapping[str, str]) -> Path | None:
    if named := env.get(FILE_VARIABLE):
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _from_file(path: Path) -> dict[str, Setting]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: {error}") from None
    return {key: Setting(value, str(path)) for key, value in _flatten(content, str(path))}


def _from_env(env: Mapping[str, str]) -> dict[str, Setting]:
    known = {variable(key): key for key in all_keys()}
    found = {}
    for name, text in env.items():
        if not name.startswith("TICKCAST_") or name in _OTHER_VARIABLES or name.startswith(_OTHER_PREFIXES):
            continue
        if name not in known:
            raise ConfigError(f"environment: unknown variable {name}{_nearest(name, known)}")
        if text:  # an empty variable is how a shell or a compose file says "not set"
            found[known[name]] = Setting(text, name, is_text=True)
    return found


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Setting]:
    return {
        key: Setting(value, FLAGS.get(key, f"--set {key}"), is_text=True)
        for key, value in _flatten(flags, "flags")
        if value is not None
    }


def _flatten(content: Mapping[str, Any], origin: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    known = all_keys()
    sections = {key.rpartition(".")[0] for key in known}
    for name, value in content.items():
        key = prefix + name
        if key in known:
            yield key, value
        elif key in sections and isinstance(value, Mapping):
            yield from _flatten(value, origin, f"{key}.")
        elif key in sections:
            raise ConfigError(f"{key}: must be a table of keys, was {value!r} ({origin})")
        else:
            raise ConfigError(f"{key}: unknown key ({origin}){_nearest(key, known)}")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff=0.6)
    if not near:  # the right name in the wrong section
        near = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
    return f"; did you mean {near[0]}?" if near else "; `tickcast config` lists all"


def _convert(key: str, setting: Setting, kind: object) -> object:
    value = setting.value
    try:
        if isinstance(value, str) and is_size(kind):
            value = parse_bytes(value)
        elif isinstance(value, str) and setting.is_text and is_compound(kind):
            value = _compound(value, kind)
    except ValueError:
        pass  # the check below says what is allowed
    return check(key, value, kind, setting.origin, lax=setting.is_text)


def _compound(text: str, kind: object) -> object:
    """Return a list or table given as text: JSON, or for a list values with commas between them."""
    if text.lstrip().startswith(("[", "{")):
        return json.loads(text)
    return [part.strip() for part in text.split(",") if part.strip()] if is_list(kind) else text


def _put(tree: dict[str, Any], key: str, value: object) -> None:
    head, _, name = key.rpartition(".")
    (tree.setdefault(head, {}) if head else tree)[name] = value


def _resolve(tree: dict[str, Any], base: Path) -> None:
    """Make what depends on the working directory independent of it."""
    tree["run_dir"] = os.path.normpath(base / Path(tree["run_dir"]).expanduser())
    if tree.get("dead_letters") and not urls.is_dead_letter_url(tree["dead_letters"]):
        tree["dead_letters"] = os.path.normpath(base / Path(tree["dead_letters"]).expanduser())
    files = tree.get("grpc", {})
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        if files.get(name):
            files[name] = os.path.normpath(base / Path(files[name]).expanduser())
    if tree.get("source"):
        tree["source"] = urls.absolute(tree["source"], base)
    tree["sinks"] = tuple(urls.absolute(sink, base) for sink in tree.get("sinks", ()))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
