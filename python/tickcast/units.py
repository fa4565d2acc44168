"""Durations, sizes and times as people write them."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

__all__ = ["parse_bytes", "parse_duration_ns", "parse_time_ns"]

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
_BYTES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|B|)")
_MAX_NS = 2**63 - 1


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds of a duration such as ``40m``, ``250ms``, ``1.5s`` or ``1h30m``.

    Raises:
        ValueError: It is not one, or longer than 292 years.
    """
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"must be a duration such as 250ms, 5s or 40m, was {text!r}")
    total = sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in parts)
    if total > _MAX_NS:
        raise ValueError(f"must be at most 292 years, was {text!r}")
    return int(total)


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``65536``, ``256MiB`` or ``1GB``.

    Raises:
        ValueError: It is not one.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a size such as 65536, 256MiB or 1GB, was {text!r}")
    return int(Decimal(match[1]) * _BYTES[match[2]])


def parse_time_ns(text: str) -> int:
    """Return the ns since the Unix epoch of a whole number (already ns) or an ISO 8601 time (without a zone: UTC).

    Raises:
        ValueError: It is neither, or before 1970 or after 2262.
    """
    try:
        value = int(Decimal(text)) if text.isdigit() else _iso_ns(text)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"must be ns since 1970 or a time such as 2024-01-02T14:30:00Z, was {text!r}") from None
    if not 0 <= value <= _MAX_NS:
        raise ValueError(f"must lie between 1970 and 2262, was {text!r}")
    return value


def _iso_ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
