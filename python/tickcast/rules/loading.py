"""Finds a rule set by name: ``module:attribute``, or the name of an entry point in the group ``tickcast.rules``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

from tickcast.errors import RuleError
from tickcast.rules.ruleset import RuleSet

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["GROUP", "installed", "load"]

GROUP: Final = "tickcast.rules"


def installed() -> dict[str, str]:
    """Return the rule sets that installed packages register: name to ``module:attribute``."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and workers hardly ever need it

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def load(spec: str) -> RuleSet:
    """Import the rule set that ``spec`` names; the current directory is looked at first.

    Args:
        spec: ``module:attribute``, or the name of an entry point in the group ``tickcast.rules``.

    Raises:
        RuleError: One line: no such module or attribute, not a rule set, or what the module raised and where.
    """
    target = spec if ":" in spec else installed().get(spec, "")
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        known = ", ".join(sorted(installed())) or "none"
        raise RuleError(f"rules {spec!r}: expected module:attribute, such as desk:rules (installed by name: {known})")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds plain strings
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    value: object = _import(spec, module_name)
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise RuleError(f"rules {spec!r}: module {module_name!r} has no attribute {attribute!r}") from None
    if not isinstance(value, RuleSet):
        raise RuleError(f"rules {spec!r}: expected a tickcast.RuleSet, found {type(value).__name__}")
    _ = value.version  # the hash of the source as it was when it was imported
    return value


def _import(spec: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise RuleError(f"rules {spec!r}: there is no module {error.name!r} here or on the Python path") from None
        raise RuleError(_raised(spec, error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code: SystemExit among others
        raise RuleError(_raised(spec, error)) from error


def _raised(spec: str, error: BaseException) -> str:
    """Say in one line what the module raised, and the line of it that did."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "its import"
    text = " ".join(str(error).split())
    return f"rules {spec!r}: {where} raised {type(error).__name__}{f': {text}' if text else ''}"


def _is_users(filename: str) -> bool:
    package = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - compared as a string prefix
    own = filename.startswith(package) and not filename.startswith(os.path.join(package, "examples"))  # noqa: PTH118
    return not own and not filename.startswith("<frozen")
