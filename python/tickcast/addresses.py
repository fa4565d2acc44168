"""Hosts and ports: what can be listened on, and how addresses are written."""

import contextlib
import errno
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from tickcast.errors import ConfigError

__all__ = ["choose_port", "connect_host", "host_port", "port_of", "web_url"]

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Says from which port on the system chooses by itself."""
LOWEST, TRIES = 20_000, 64
"""What is chosen here lies between `LOWEST` and that; after so many that are taken the system chooses."""


def choose_port(host: str, port: int, *, section: str = "web") -> int:
    """Return the port to listen on, a free one for 0, once it was proven by binding it.

    Args:
        host: Name or address to listen on.
        port: The port wanted.
        section: Whose host and port these are, for messages: ``web`` or ``grpc``.

    Raises:
        ConfigError: It can't be listened on; says why.
    """
    try:
        family, _, _, _, (address, _, *scope) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        for quiet in _quiet_ports() if port == 0 else ():
            with contextlib.suppress(OSError):
                return _bound(family, (address, quiet, *scope))
        return _bound(family, (address, port, *scope))
    except socket.gaierror as error:
        raise ConfigError(f"{section}.host: can't listen on {host}: {error.strerror}") from None
    except OSError as error:
        # The gRPC server comes unasked: who wants two of them has yet to hear of the port.
        unasked = section == "grpc" and error.errno == errno.EADDRINUSE
        hint = "; choose another with --grpc-port (0: a free one)" if unasked else ""
        raise ConfigError(
            f"{section}.port: can't listen on {host_port(host, port)}: {os.strerror(error.errno or 0)}{hint}"
        ) from None


def _bound(family: int, address: tuple[str | int, ...]) -> int:
    """Return the port of an address that can be bound; for 0 the system's choice."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does: a port whose connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        found: int = probe.getsockname()[1]
        return found


def _quiet_ports() -> Iterator[int]:
    """Yield ports that the system gives to nobody who does not ask for them.

    One of its own choice may go to somebody's outgoing connection before the server listens on it, or while it is
    started again.
    """
    try:
        first = int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    for _ in range(TRIES if first > LOWEST else 0):
        yield random.randrange(LOWEST, first)


def connect_host(host: str) -> str:
    """Return the host under which a listener on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def web_url(host: str, port: int) -> str:
    """Return the address of a gateway, for people."""
    return f"http://{host_port(host, port)}"


def host_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(address: str) -> int:
    """Return the port of ``host:port``."""
    return int(address.rpartition(":")[2])
