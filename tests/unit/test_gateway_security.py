"""Who may come in."""

import pytest

from tickcast.config import Web
from tickcast.gateway.security import Gatekeeper, is_loopback


def scope(path="/api/status", kind="http", server=("127.0.0.1", "3000"), query="", **headers):
    named = {"host": "127.0.0.1:3000", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items() if value is not None]
    return {"type": kind, "path": path, "server": server, "query_string": query.encode(), "headers": raw}


def status(web: Web, **request):
    refusal = Gatekeeper(web).refusal(scope(**request))
    return refusal and int(refusal.status)


PUBLIC = ("0.0.0.0", "3000")
OPEN = Web(host="0.0.0.0", insecure_public=True)
SECRET = Web(auth_token="s3cret")


def test_loopback_lets_in_whoever_sends_no_origin():
    assert status(Web()) is None
    assert status(Web(), kind="websocket", path="/ws/marketdata") is None


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1:3000", None),
        ("http://localhost:3000", "localhost:3000", None),
        ("http://LOCALHOST:3000", "localhost:3000", None),
        ("http://localhost:3000", "127.0.0.1:3000", 403),
        ("http://127.0.0.1:3001", "127.0.0.1:3000", 403),
        ("https://evil.example", "127.0.0.1:3000", 403),
        ("null", "127.0.0.1:3000", 403),
        ("", "127.0.0.1:3000", 403),
    ],
)
def test_an_origin_must_be_our_own(origin, host, expected):
    assert status(Web(), kind="websocket", path="/ws/marketdata", origin=origin, host=host) == expected


def test_configured_origins_are_let_in():
    web = Web(origins=("https://desk.example",))
    assert status(web, origin="https://desk.example") is None
    assert status(web, origin="https://desk.example", host="desk.example") is None
    assert status(web, origin="https://other.example") == 403
    assert status(Web(origins=("*",)), origin="https://any.example") is None


def test_a_name_repointed_at_loopback_is_turned_away():
    assert status(Web(), origin="http://evil.example:3000", host="evil.example:3000") == 403
    assert status(Web(), host="evil.example:3000") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "[::1]:3000", "127.8.8.8:3000", "app.localhost:3000"])
def test_names_of_loopback_are_known(host):
    assert status(Web(), host=host) is None


def test_a_public_address_needs_a_token_or_a_word():
    assert status(Web(), server=PUBLIC) == 403
    assert status(OPEN, server=PUBLIC) is None
    assert status(SECRET, server=PUBLIC) == 401
    assert status(SECRET, server=PUBLIC, authorization="Bearer s3cret") is None


def test_a_token_comes_by_header_query_or_cookie():
    assert status(SECRET) == 401
    assert status(SECRET, authorization="Bearer s3cret") is None
    assert status(SECRET, authorization="bearer s3cret") is None
    assert status(SECRET, authorization="Bearer s3cre") == 401
    assert status(SECRET, authorization="Basic s3cret") == 401
    assert status(SECRET, query="a=1&token=s3cret") is None
    assert status(SECRET, query="token=") == 401
    assert status(SECRET, cookie="x=1; tickcast_token=s3cret") is None
    assert status(SECRET, cookie="tickcast_token=wrong") == 401
    assert status(SECRET, cookie="tickcast_token=\x01;;;=") == 401


def test_a_token_does_not_replace_the_origin_check():
    assert status(SECRET, authorization="Bearer s3cret", origin="https://evil.example") == 403


def test_health_is_for_everybody():
    for path in ("/health", "/health/ready"):
        assert status(SECRET, path=path, server=PUBLIC, host="probe.example", origin="https://x.example") is None
    assert status(SECRET, path="/health/other") == 401
    assert status(SECRET, path="/health", kind="websocket") == 401


def test_loopback_is_more_than_one_address():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.1.1", "::", "example.com", "localhost.example.com", "")))
