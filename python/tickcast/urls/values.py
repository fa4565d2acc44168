"""Values of parameters: each reader takes a text, or says with a ValueError what is allowed."""

import re
from collections.abc import Callable
from typing import Any, get_args

from tickcast.errors import ConfigError
from tickcast.units import parse_duration_ns
from tickcast.urls.kinds import PayloadFormat

__all__ = [
    "check_volume_scale",
    "columns_of",
    "kafka_name",
    "nats_name",
    "number",
    "number_or_max",
    "one_of",
    "pause",
    "payload_format",
    "replay_columns",
    "true_or_false",
    "volume_scale",
    "whole",
    "yes_or_no",
]

_TRADES = {"instrument_id": "symbol", "price": "price", "volume": "amount", "timestamp_ns": "timestamp"}
_FORMS = {"tardis": {**_TRADES, "unit": "us"}, "ccxt": {**_TRADES, "unit": "ms"}}
"""Columns of well-known files, and the unit of their times."""
_POWERS_OF_TEN = frozenset(10**n for n in range(19))


def whole(low: int, high: int) -> Callable[[str], int]:
    """Read a whole number between bounds."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, was {text!r}")
        return int(text)

    return read


def number(low: float, high: float, also: str = "") -> Callable[[str], float]:
    """Read a number between bounds; `also` says what else is taken."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}{also}, was {text!r}")
        return value

    return read


def number_or_max(low: float, high: float) -> Callable[[str], float | None]:
    """Read a number between bounds; ``max`` is None."""
    read = number(low, high, " or max")
    return lambda text: None if text == "max" else read(text)


def one_of(*allowed: str) -> Callable[[str], str]:
    """Read one of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, was {text!r}")
        return text

    return read


def yes_or_no(text: str) -> bool:
    """Read 0 or 1."""
    if text not in ("0", "1"):
        raise ValueError(f"must be 0 or 1, was {text!r}")
    return text == "1"


def true_or_false(text: str) -> bool:
    """Read true or false."""
    return one_of("true", "false")(text) == "true"


def payload_format(text: str) -> str:
    """Read the format of payloads."""
    return one_of(*get_args(PayloadFormat))(text)


def pause(text: str) -> int:
    """Read a duration from 10 ms to a day, in ns."""
    pause_ns = parse_duration_ns(text)
    if not 10**7 <= pause_ns <= 86_400 * 10**9:
        raise ValueError(f"must be a duration from 10ms to 24h, was {text!r}")
    return pause_ns


def volume_scale(text: str) -> int:
    """Read a power of ten, also as ``1e8``."""
    match = re.fullmatch(r"10{0,18}|1e(\d|1[0-8])", text)
    if match is None:
        raise ValueError(f"must be a power of ten from 1 to 10^18 such as 1e8, was {text!r}")
    return 10 ** int(match[1]) if match[1] else int(text)


def check_volume_scale(key: str, scale: int) -> int:
    """Return `scale` if it is a power of ten from 1 to 10^18.

    Raises:
        ConfigError: It is not.
    """
    if scale not in _POWERS_OF_TEN:
        raise ConfigError(f"{key}: must be a power of ten from 1 to 10^18, was {scale}")
    return scale


def nats_name(text: str) -> str:
    """Read the name of a stream or durable."""
    if not re.fullmatch(r"[^\s.*>/\\]+", text):
        raise ValueError(f"must be a name without blanks, dots, wildcards and slashes, was {text!r}")
    return text


def kafka_name(text: str) -> str:
    """Read the name of a group or member."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text):
        raise ValueError(f"must be a name of letters, digits, dots, - and _, was {text!r}")
    return text


def replay_columns(columns: dict[str, str] | str | None, unit: str | None) -> dict[str, Any]:
    """Return the fields `columns` and `unit` of `Replay`: a known form of file brings its unit.

    Raises:
        ValueError: The columns are not to be understood.
    """
    if isinstance(columns, str):
        columns = columns_of(columns)
    known = columns or {}
    return {"columns": {k: v for k, v in known.items() if k != "unit"}, "unit": unit or known.get("unit", "ns")}


def columns_of(text: str) -> dict[str, str]:
    """Read a mapping of columns: pairs, or the name of a known form of file."""
    if text in _FORMS:
        return dict(_FORMS[text])
    pairs = [pair.partition(":") for pair in text.split(",")]
    columns = {ours: theirs for ours, colon, theirs in pairs if colon and theirs}
    ours = ("instrument_id", "price", "volume", "timestamp_ns")
    if len(columns) < len(pairs) or not columns.keys() <= set(ours):
        forms = ", ".join(_FORMS)
        raise ValueError(f"must be {forms} or pairs such as volume:amount of {', '.join(ours)}, was {text!r}")
    return columns
