"""A URL taken apart."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

import msgspec

from tickcast.errors import ConfigError
from tickcast.urls.masking import mask

__all__ = ["EXAMPLES", "Url", "hosts_of", "path_of", "server_and_subject"]

EXAMPLES = {
    "source": "sim://?rate=5000 or nats://127.0.0.1:4222/ticks",
    "sink": "jsonl:trades.jsonl",
    "replay": "replay:ticks.csv.gz",
    "jsonl": "jsonl:trades.jsonl",
    "parquet": "parquet:/data/trades?flush=15m",
    "arrow": "arrow:trades.arrows",
    "grpc": "grpc://10.0.0.5:50051",
    "kafka": "kafka://127.0.0.1:9092/ticks?group=desk",
    "nats": "nats://127.0.0.1:4222/ticks",
    "jetstream": "jetstream://127.0.0.1:4222/ticks?stream=TICKS",
}


class Url(msgspec.Struct, frozen=True):
    """A URL taken apart: what stands before the query, and the query."""

    role: str
    text: str
    scheme: str
    rest: str
    params: dict[str, str]

    def refuse(self, problem: str) -> NoReturn:
        """Raise a ConfigError that says what is wrong with this URL."""
        raise ConfigError(f"{self.role}: {problem} ({mask(self.text)})")

    def values(self, allowed: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
        """Return the parameters as fields; `allowed` is parameter -> (field, reader)."""
        found = {}
        for name, text in self.params.items():
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, 1)
                hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(allowed)) or 'none'}"
                self.refuse(f"unknown parameter {name!r} of {self.scheme}:, {hint}")
            field, read = allowed[name]
            try:
                found[field] = read(text)
            except ValueError as error:
                self.refuse(f"{name} {error}")
        return found


def path_of(url: Url) -> str:
    """Return the path of a URL that names a file or a directory."""
    rest = url.rest
    if rest.startswith("//"):
        if not rest.startswith("///"):
            url.refuse(f"{url.scheme}: takes a path, not a host: {url.scheme}:PATH or {url.scheme}:///PATH")
        rest = rest[2:]
    if not rest:
        url.refuse(f"{url.scheme}: needs a path, {EXAMPLES[url.scheme]}")
    return unquote(rest)


def server_and_subject(url: Url) -> tuple[str, str]:
    """Return the servers of a NATS URL, comma-separated, and its subject."""
    authority, _, path = url.rest.removeprefix("//").partition("/")
    if "@" in path or "@" in "".join(url.params):
        url.refuse("in a user or password, / ? # and @ must be percent-encoded")
    user, _, hosts = authority.rpartition("@")
    netlocs = [f"{host}:{port}" for host, port in hosts_of(url, hosts, 4222)]
    servers = [f"nats://{user}@{netloc}" if user else f"nats://{netloc}" for netloc in netlocs]
    subject = unquote(path)
    if not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", subject):
        url.refuse(f"{url.scheme}:// needs a subject, {EXAMPLES[url.scheme]}")
    return ",".join(servers), subject


def hosts_of(url: Url, hosts: str, default_port: int) -> list[tuple[str, int]]:
    """Return hosts and ports of a comma-separated list."""
    if not hosts or not url.rest.startswith("//"):
        url.refuse(f"{url.scheme}:// needs a host, {EXAMPLES[url.scheme]}")
    found = []
    for host in hosts.split(","):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", host)
        if match is None or not 1 <= int(match[2] or default_port) <= 65_535:
            url.refuse(f"{host!r} must be host:port, with a port from 1 to 65535")
        found.append((match[1], int(match[2] or default_port)))
    return found
