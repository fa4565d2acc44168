"""Secrets in URLs: what is not for everybody's eyes."""

import re

__all__ = ["is_secret", "mask"]

_WITHOUT_USER = ("sim:", "replay:", "jsonl:", "parquet:", "arrow:")
_SECRET = "token|pass|secret|key"


def mask(url: str) -> str:
    """Return the URL with passwords, tokens and secret parameters replaced by ``***``.

    Works on wrong URLs too, and hides rather too much: a password may hold anything.
    """
    if not url.startswith(_WITHOUT_USER):
        url = re.sub(r"(^[a-z0-9+.-]*:(?://)?|^)(.*)@", _mask_user, url, flags=re.DOTALL)
    return re.sub(rf"([?&][^=&]*(?:{_SECRET})[^=&]*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether the value of a parameter of this name is not for everybody's eyes."""
    return re.search(_SECRET, name, flags=re.IGNORECASE) is not None


def _mask_user(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    # One word alone is a NATS token, hence secret as a whole.
    return f"{match[1]}{user}:***@" if colon else f"{match[1]}***@"
