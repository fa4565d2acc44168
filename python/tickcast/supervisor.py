"""``tickcast serve``: a supervisor of two children, the processor and the gateway's main process.

Any of the three may be killed at any moment. The children run in sessions of their own; a supervisor that finds them
living, with the same configuration, adopts them instead of starting its own. Only an orderly stop (SIGTERM, SIGINT,
SIGHUP) ends them: the gateway first, so that clients are told, then the processor.

Under plain Granian there is no supervisor, and a `ProcessorKeeper` in each gateway worker takes its part for the
processor: whoever holds ``supervisor.lock`` keeps it alive, another takes over, the last one to leave in order ends it.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tickcast import config as configuration
from tickcast.addresses import choose_port, connect_host, host_port, port_of, web_url
from tickcast.child import ChildFailedError, Keeper, Patience, Role
from tickcast.config import Config
from tickcast.errors import ConfigError, TapeBusyError
from tickcast.rundir import GatewayInfo, Lock, Presence, ProcessorInfo, RunDir

__all__ = ["Addresses", "Commands", "ProcessorKeeper", "serve"]

SUPERVISED_VARIABLE = "TICKCAST_SUPERVISED"
_TAKE_OVER_S = 0.25
_READY_LOOK_S = 0.05
_READY_NOTE_S = 15.0
_REQUEST_S = 2.0
# What a child may see of our environment's TICKCAST_* besides its configuration.
_PASSED_PREFIXES = ("TICKCAST_TEST_", "TICKCAST_BENCH_", "TICKCAST_CACHE_DIR", "TICKCAST_NATS_")


class Commands(msgspec.Struct, frozen=True, kw_only=True):
    """How the children are started; tests put stand-ins here."""

    processor: Sequence[str] = (sys.executable, "-m", "tickcast.processor")
    """The processor."""
    gateway: Sequence[str] = (sys.executable, "-m", "tickcast.gateway")
    """The gateway's main process."""


class Addresses(NamedTuple):
    """Where clients come in."""

    web: str
    """Of the gateway: ``http://host:port``."""
    grpc: str
    """Of the processor: ``host:port``."""


async def serve(
    config: Config,
    *,
    commands: Commands | None = None,
    patience: Patience | None = None,
    on_ready: Callable[[Addresses], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Keep processor and gateway alive until it is time to stop; then end both in order.

    Args:
        config: What they serve.
        commands: How they are started.
        patience: When to start them again, when to give up.
        on_ready: Called with the addresses once clients can come; without it a line
            ``ready web=http://host:port grpc=host:port`` is written to stdout.
        stop: Tells when to stop; without it SIGTERM, SIGINT and SIGHUP do, the second one at once.

    Raises:
        ConfigError: A port is taken, or a living child serves another configuration.
        TapeBusyError: Another supervisor holds the run directory.
        ChildFailedError: A child refuses its configuration or keeps failing.
    """
    commands = commands or Commands()
    run = RunDir.create(config.run_dir)
    lock = Lock.acquire(run.supervisor_lock)
    if lock is None:
        holder = Lock.holder(run.supervisor_lock)
        raise TapeBusyError(f"a tickcast (pid {holder or '?'}) already runs in {run.path}; give another --run-dir")
    try:
        # Both are looked for before either is started, so that a refusal leaves nothing behind. The ports are chosen
        # here, so that a child that is started again comes up where its clients look for it.
        processor = await Keeper(processor_role(config, run, commands), patience).find()
        gateway = await Keeper(gateway_role(config, run, commands), patience).find()
        config = _with_ports(config, processor, gateway)
        keepers = (
            Keeper(processor_role(config, run, commands), patience),
            Keeper(gateway_role(config, run, commands), patience),
        )
        await _Supervisor(config, *keepers, on_ready or _print_ready).run(stop)
    finally:
        lock.release()


def _with_ports(
    config: Config, processor: ProcessorInfo | GatewayInfo | None, gateway: ProcessorInfo | GatewayInfo | None
) -> Config:
    """Return the configuration with the ports of the children that live, and proven ones for the others."""
    web, grpc = config.web, config.grpc
    port = gateway.port if isinstance(gateway, GatewayInfo) else choose_port(web.host, web.port)
    if isinstance(processor, ProcessorInfo) and processor.grpc:
        grpc_port = port_of(processor.grpc)
    else:
        grpc_port = choose_port(grpc.host, grpc.port, section="grpc")
    return msgspec.structs.replace(
        config, web=msgspec.structs.replace(web, port=port), grpc=msgspec.structs.replace(grpc, port=grpc_port)
    )


def processor_role(config: Config, run: RunDir, commands: Commands) -> Role:
    """Return how the processor of a configuration is started and recognised."""
    wanted, port = configuration.processor_hash(config), config.grpc.port

    def differs(info: ProcessorInfo | GatewayInfo) -> bool:
        other_port = isinstance(info, ProcessorInfo) and info.grpc and port not in (0, port_of(info.grpc))
        return info.config_hash != wanted or bool(other_port)

    return Role(
        name="processor",
        command=commands.processor,
        env=_child_env(config, os.environ),
        lock=run.processor_lock,
        info=run.processor_info,
        kind=ProcessorInfo,
        differs=differs,
        log=run.log / "processor.log",
    )


def gateway_role(config: Config, run: RunDir, commands: Commands) -> Role:
    """Return how the gateway of a configuration is started and recognised."""
    wanted, port = configuration.gateway_hash(config), config.web.port

    def differs(info: ProcessorInfo | GatewayInfo) -> bool:
        return info.config_hash != wanted or (isinstance(info, GatewayInfo) and port not in (0, info.port))

    return Role(
        name="gateway",
        command=commands.gateway,
        env=_child_env(config, os.environ),
        lock=run.gateway_lock,
        info=run.gateway_info,
        kind=GatewayInfo,
        differs=differs,
        log=run.log / "gateway.log",
    )


class ProcessorKeeper:
    """Keeps a processor alive from inside a gateway worker that no supervisor started.

    ``start`` returns at once; a worker that does not get ``supervisor.lock`` waits to take over. ``close`` hands over,
    and ends the processor if no other worker is there. Belongs to one event loop.
    """

    def __init__(self, config: Config, *, commands: Commands | None = None, patience: Patience | None = None) -> None:
        self._run = RunDir.create(config.run_dir)
        # A gateway goes on without a processor, and says so; it does not end because one fails.
        self._patience = patience or Patience(most_fast=None)
        self._role = processor_role(config, self._run, commands or Commands())
        self._presence: Presence | None = None
        self._keeper: Keeper | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def keeps(self) -> bool:
        """Whether this worker is the one that keeps the processor."""
        return self._keeper is not None

    async def start(self) -> None:
        """Begin to keep the processor, or to wait for it to become our turn."""
        self._presence = Presence(self._run.keepers_lock)
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Hand over to another worker; the last one ends the processor in order."""
        if self._task is None or self._presence is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        if self._presence.leave() and Lock.holder(self._run.supervisor_lock) is None:
            await self._end_processor()
        elif self._keeper is not None and self._keeper.process is not None:
            self._keeper.process.forget()

    async def _keep(self) -> None:
        lock = None
        while lock is None:  # asked again and again: the kernel tells no event loop that a lock is free
            lock = Lock.acquire(self._run.supervisor_lock, patience_s=0)
            if lock is None:
                await asyncio.sleep(_TAKE_OVER_S)
        try:
            while True:
                self._keeper = keeper = Keeper(self._role, self._patience)
                following = asyncio.create_task(keeper.follow())
                try:
                    await keeper.run()
                except (ChildFailedError, ConfigError, TapeBusyError) as error:
                    print(f"tickcast: error: {error}", file=sys.stderr, flush=True)
                finally:
                    following.cancel()
                await asyncio.sleep(self._patience.delays_s[-1])
        finally:
            lock.release()

    async def _end_processor(self) -> None:
        keeper = self._keeper or Keeper(self._role, self._patience)
        if keeper.process is None:
            await keeper.adopt()
        await keeper.stop()


class _Supervisor:
    """The two keepers, the ready line and the signals of one ``serve``."""

    def __init__(
        self, config: Config, processor: Keeper, gateway: Keeper, on_ready: Callable[[Addresses], None]
    ) -> None:
        self._web, self._grpc = config.web, config.grpc
        self._processor = processor
        self._gateway = gateway
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._signals = 0

    async def run(self, stop: asyncio.Event | None) -> None:
        """Run until it is time to stop; end both children in order, whatever happens."""
        if stop is None:
            self._listen_to_signals()
        else:
            self._stop = stop
        keeping = [asyncio.create_task(keeper.run()) for keeper in (self._processor, self._gateway)]
        stopping = asyncio.create_task(self._stop.wait())
        helping = asyncio.create_task(self._follow_and_say_ready())
        tasks = [*keeping, stopping, helping]
        try:
            await asyncio.wait([*keeping, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._gateway.stop()
            await self._processor.stop()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            for keeper in (self._gateway, self._processor):
                keeper.kill()

    async def _follow_and_say_ready(self) -> None:
        keepers = (self._processor, self._gateway)
        for keeper in keepers:
            await keeper.up.wait()
        async with asyncio.TaskGroup() as tasks:
            for keeper in keepers:
                tasks.create_task(keeper.follow())
            tasks.create_task(self._say_ready())

    async def _say_ready(self) -> None:
        note_at = asyncio.get_running_loop().time() + _READY_NOTE_S
        while (answer := await _ask_ready(self._web.host, self._web.port)) is not None:
            if asyncio.get_running_loop().time() > note_at:
                print(f"tickcast: not ready yet: {answer}", file=sys.stderr, flush=True)
                note_at += _READY_NOTE_S
            await asyncio.sleep(_READY_LOOK_S)
        web, grpc = self._web, self._grpc
        self._on_ready(Addresses(web_url(web.host, web.port), host_port(grpc.host, grpc.port)))


def _print_ready(addresses: Addresses) -> None:
    print(f"ready web={addresses.web} grpc={addresses.grpc}", flush=True)


async def _ask_ready(host: str, port: int) -> str | None:
    """Return None if the gateway says that it is ready, else what it says."""
    try:
        async with asyncio.timeout(_REQUEST_S):
            reader, writer = await asyncio.open_connection(connect_host(host), port)
            try:
                name = f"[{host}]" if ":" in host else host
                writer.write(f"GET /health/ready HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(65_536)).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    status = head.split(" ", 2)[1:2]
    return None if status == ["200"] else f"/health/ready answers {''.join(status) or 'nothing'} {body.strip()}"


def _child_env(config: Config, env: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: ours, with the one configuration in place of every TICKCAST_* setting."""
    kept = {
        name: value
        for name, value in env.items()
        if not name.startswith("TICKCAST_") or name.startswith(_PASSED_PREFIXES)
    }
    return {**kept, **configuration.to_env(config), SUPERVISED_VARIABLE: "1"}
