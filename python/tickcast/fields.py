"""Typed fields of the configuration: what a field takes, and the one check that says so in words.

A field's type carries its bounds, which msgspec checks, and a description, which is what an error says is allowed.
"""

import math
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from tickcast.errors import ConfigError
from tickcast.units import parse_duration_ns

__all__ = [
    "Duration",
    "Host",
    "LogLevel",
    "Policy",
    "Port",
    "Price",
    "RuleSpec",
    "Scale",
    "Section",
    "allowed_text",
    "check",
    "fields",
    "is_compound",
    "is_list",
    "is_size",
    "size",
    "whole",
]

Port = Annotated[int, Meta(ge=0, le=65_535, description="a port, 0 to 65535 (0: a free one)")]
Host = Annotated[str, Meta(min_length=1, description="a host name or address to listen on")]
Duration = Annotated[str, Meta(description="a duration such as 250ms, 5s, 40m or 1h30m")]
RuleSpec = Annotated[
    str,
    Meta(
        pattern=r"^([\w.]+:[\w.]+|[\w.-]+)$",
        description="module:attribute, such as desk:rules, or the name of an installed rule set",
    ),
]
Scale = Annotated[int, Meta(ge=1, le=10**18, description="a power of ten from 1 to 10^18")]
Price = Annotated[float, Meta(ge=1e-12, le=1e15, description="a price from 1e-12 to 1e15")]
Policy = Annotated[
    Literal["fail-closed", "fail-open"], Meta(description="fail-closed (INVALID) or fail-open (UNKNOWN)")
]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")]


def whole(low: int, high: int) -> Meta:
    """Return the bounds of a whole number, both ends allowed."""
    return Meta(ge=low, le=high, description=f"a whole number from {low} to {high}")


def size(low: int, high: int, words: str) -> Meta:
    """Return the bounds of a number of bytes, both ends allowed; `words` say them."""
    return Meta(ge=low, le=high, description=f"a size {words}")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration; checks its fields when it is constructed."""

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, kind in fields(type(self)).items():
            check(self.prefix + name, getattr(self, name), kind)
        self._check_together()

    def _check_together(self) -> None:
        """Check what one field's type can't say."""


@cache
def fields(section: type[Section]) -> dict[str, Any]:
    """Return each field of a section with its annotated type."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in section.__struct_fields__}


def check(key: str, value: object, kind: object, origin: str | None = None, *, lax: bool = False) -> object:
    """Return `value` as `kind`.

    Args:
        key: Dotted name, for the message.
        value: What was given.
        kind: The field's annotated type.
        origin: Where it was given, for the message.
        lax: Take numbers and booleans from text too (environment and flags have nothing else).

    Raises:
        ConfigError: It is not; the message names key, value and what is allowed.
    """
    try:
        result: object = msgspec.convert(value, kind, strict=not lax)
        if isinstance(result, str) and kind == Duration:
            parse_duration_ns(result)
        if isinstance(result, float) and not math.isfinite(result):
            raise ValueError("not finite")
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        allowed = allowed_text(kind) or str(error).removeprefix("Expected ").split(" - at", maxsplit=1)[0]
        shown = "***" if key.endswith("auth_token") else repr(value)
        place = f" ({origin})" if origin else ""
        raise ConfigError(f"{key}: must be {allowed}, was {shown}{place}") from None
    return result


def allowed_text(kind: object) -> str:
    """Return what is allowed in a field of this annotated type, empty if the type says nothing."""
    described = [m.description for m in getattr(kind, "__metadata__", ()) if isinstance(m, Meta) and m.description]
    if described:
        return described[-1]
    parts = [text for part in get_args(kind) if (text := allowed_text(part))]
    if get_origin(kind) is dict:
        return f"a table of instruments, each with {parts[-1]}" if parts else "a table of texts"
    if get_origin(kind) is tuple:
        return f"[lower, upper], each {parts[0]}" if parts else "a list of texts"
    return " or ".join(parts) or ("true or false" if kind is bool else "")


def is_size(kind: object) -> bool:
    """Tell whether a field of this type is a number of bytes, which people write with a unit."""
    return allowed_text(kind).startswith("a size")


def is_list(kind: object) -> bool:
    """Tell whether a field of this type is a list."""
    return get_origin(kind) is tuple


def is_compound(kind: object) -> bool:
    """Tell whether a field of this type is, or may be, a list or a table."""
    parts = [kind, *get_args(kind)]
    return any(get_origin(part) in (tuple, dict) for part in parts)
