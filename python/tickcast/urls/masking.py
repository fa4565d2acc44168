"""Secrets in URLs: what is not for everybody's eyes."""

import re

__all__ = ["MASK", "is_masked", "is_secret", "mask"]

_WITHOUT_USER = ("sim:", "replay:", "jsonl:", "parquet:", "arrow:")
_SECRET = "token|pass|secret|key"

MASK = "***"
"""What is shown in place of a secret."""


def mask(url: str) -> str:
    """Return the URL with passwords, tokens and secret parameters replaced by ``***``.

    Works on wrong URLs too, and hides rather too much: a password may hold anything.
    """
    if not url.startswith(_WITHOUT_USER):
        url = re.sub(r"(^[a-z0-9+.-]*:(?://)?|^)(.*)@", _mask_user, url, flags=re.DOTALL)
    return re.sub(rf"([?&][^=&]*(?:{_SECRET})[^=&]*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


def is_masked(url: str) -> bool:
    """Tell whether a secret of the URL is the mask itself: it was copied from where secrets are hidden."""
    in_user = not url.startswith(_WITHOUT_USER) and re.search(r"[/:]\*\*\*@", url)
    in_query = re.search(rf"[?&][^=&]*(?:{_SECRET})[^=&]*=\*\*\*(?:[&#]|$)", url, flags=re.IGNORECASE)
    return bool(in_user or in_query)


def is_secret(name: str) -> bool:
    """Tell whether the value of a parameter of this name is not for everybody's eyes."""
    return re.search(_SECRET, name, flags=re.IGNORECASE) is not None


def _mask_user(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    # One word alone is a NATS token, hence secret as a whole.
    return f"{match[1]}{user}:***@" if colon else f"{match[1]}***@"
