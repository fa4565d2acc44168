"""Who may come in: bind, Host, Origin, token.

Any web page can open a socket to loopback, and a page whose name is re-pointed at 127.0.0.1 even shares our origin. So
browsers are let in by name: ``Origin``, where one is sent, must be our own or a configured one, and on loopback
``Host`` must be a name of loopback. What sends no ``Origin`` is no browser, and passes.
"""

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tickcast.config import Web

__all__ = ["TOKEN_COOKIE", "Gatekeeper", "Refusal", "is_loopback"]

TOKEN_COOKIE = "tickcast_token"
_OPEN_PATHS = frozenset({"/health", "/health/ready"})
"""Answered to anybody: they say nothing of what is traded."""


class Refusal(NamedTuple):
    """Why a request is turned away."""

    status: HTTPStatus
    reason: str


def is_loopback(host: str) -> bool:
    """Tell whether `host`, a name or an address, is this machine talking to itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


class Gatekeeper:
    """Checks requests against the configuration."""

    def __init__(self, web: Web) -> None:
        self._token = web.auth_token
        self._public = web.insecure_public
        self._any_origin = "*" in web.origins
        self._origins = {origin.rstrip("/").lower() for origin in web.origins}
        self._names = {urlsplit(origin).netloc.lower() for origin in web.origins}

    def refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        """Return why an ASGI request has to be turned away, None if it may come in."""
        if scope["type"] == "http" and scope["path"] in _OPEN_PATHS:
            return None
        headers = _headers(scope["headers"])
        return (
            self._wrong_bind(scope.get("server"))
            or self._wrong_host(scope.get("server"), headers.get("host", ""))
            or self._wrong_origin(headers.get("origin"), headers.get("host", ""))
            or self._wrong_token(scope, headers)
        )

    def _wrong_bind(self, server: tuple[str, Any] | None) -> Refusal | None:
        """A gateway under plain Granian does not know where it is bound until somebody comes."""
        if server is None or is_loopback(server[0]) or self._token or self._public:
            return None
        return Refusal(
            HTTPStatus.FORBIDDEN,
            f"{server[0]} is reachable from other machines: set web.auth_token, or allow it with --insecure-public",
        )

    def _wrong_host(self, server: tuple[str, Any] | None, host: str) -> Refusal | None:
        if server is None or not is_loopback(server[0]) or self._public:
            return None
        if not host or is_loopback(_name(host)) or self._any_origin or host.lower() in self._names:
            return None
        return Refusal(HTTPStatus.FORBIDDEN, f"Host {host} is no name of this gateway; add it to web.origins")

    def _wrong_origin(self, origin: str | None, host: str) -> Refusal | None:
        if origin is None or self._any_origin or origin.rstrip("/").lower() in self._origins:
            return None
        if host and urlsplit(origin).netloc.lower() == host.lower():
            return None
        return Refusal(HTTPStatus.FORBIDDEN, f"Origin {origin} is not let in; add it to web.origins")

    def _wrong_token(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
        if self._token is None:
            return None
        given = _token(scope, headers)
        if given is not None and hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return Refusal(HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer, or ?token=")


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _name(host: str) -> str:
    """Return a Host header without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _token(scope: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if "token" in query:
        return str(query["token"][0])
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(TOKEN_COOKIE)
    except CookieError:
        return None
    return str(cookie.value) if cookie is not None else None
