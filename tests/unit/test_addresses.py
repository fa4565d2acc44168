"""Ports that are chosen: free ones, which nobody is given unasked."""

import random
import socket
from pathlib import Path

import pytest

from tickcast import addresses
from tickcast.errors import ConfigError


@pytest.fixture
def ephemeral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says which ports the system gives by itself."""
    path = tmp_path / "range"
    monkeypatch.setattr(addresses, "EPHEMERAL", path)
    return path


def listens(port: int) -> bool:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger there
        server.bind(("127.0.0.1", port))
        server.listen()
        return True


def test_a_free_port_is_none_that_the_system_gives_by_itself(ephemeral: Path) -> None:
    ephemeral.write_text("21000\t60999\n")
    ports = {addresses.choose_port("127.0.0.1", 0) for _ in range(200)}
    assert all(20_000 <= port < 21_000 and listens(port) for port in ports)
    assert len(ports) > 100


@pytest.mark.parametrize("text", ["1024\t65535\n", "", "odd"])
def test_where_the_system_gives_all_of_them_it_chooses(ephemeral: Path, text: str) -> None:
    ephemeral.write_text(text)
    assert listens(addresses.choose_port("127.0.0.1", 0))
    ephemeral.unlink()
    assert listens(addresses.choose_port("127.0.0.1", 0))


def test_one_that_is_taken_is_passed_over(ephemeral: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ephemeral.write_text("30000\t60999\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(random, "randrange", lambda *_: port)
        assert listens(addresses.choose_port("127.0.0.1", 0))
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use"):
            addresses.choose_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
def test_every_kind_of_host_has_one(ephemeral: Path, host: str) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    ephemeral.write_text("21000\t60999\n")
    assert 20_000 <= addresses.choose_port(host, 0) < 21_000


def test_a_host_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match=r"web\.host: can't listen on nowhere\.invalid"):
        addresses.choose_port("nowhere.invalid", 0)
