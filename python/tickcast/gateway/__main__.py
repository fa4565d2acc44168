"""``python -m tickcast.gateway``: the gateway in a process of its own, Granian embedded.

A worker that dies is replaced at once. A second death of the same worker within 5.5 s makes Granian stop altogether
("crash loop"); then this process ends with exit code 1, and whoever supervises it starts it again. Clients come back
with their place on the tape either way.
"""

import asyncio
import os
import sys
from functools import partial
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels
from granian.server import Server

from tickcast import config as configuration
from tickcast import exits, logs
from tickcast.addresses import choose_port
from tickcast.config import Config
from tickcast.errors import TapeBusyError
from tickcast.gateway.asgi import App
from tickcast.gateway.security import is_loopback
from tickcast.rundir import GatewayInfo, Lock, RunDir, announce

__all__ = ["main"]

BACKLOG = 8192
KILL_TIMEOUT_S = 5
_ANNOUNCE_EVERY_S = 0.02


def main() -> int:
    """Serve until told to stop."""
    config = configuration.from_process_env()
    logs.configure(config.log_level)
    run = RunDir.create(config.run_dir)
    lock = Lock.acquire(run.gateway_lock)
    if lock is None:
        raise TapeBusyError(f"a gateway (pid {Lock.holder(run.gateway_lock) or '?'}) serves {run.path} already")
    # Workers share the port by SO_REUSEPORT, which would also let them share it with a stranger: look first.
    port = choose_port(config.web.host, config.web.port)
    config = msgspec.structs.replace(config, web=msgspec.structs.replace(config.web, port=port))
    server = Server(
        "tickcast.gateway:app",
        address=config.web.host,
        port=port,
        interface=Interfaces.ASGI,
        workers=config.web.workers,
        runtime_mode=RuntimeModes.st,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=True,
        backlog=BACKLOG,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_TIMEOUT_S,
        log_level=LogLevels(config.log_level),
    )
    server.serve(target_loader=partial(_load, config, os.getpid()), wrap_loader=False)
    return exits.DONE


def _load(config: Config, main_pid: int) -> Any:  # noqa: ANN401  # an ASGI application
    """Return the application of a worker; called in the worker."""
    app = App(config)

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        announcing = asyncio.create_task(_announce(config, main_pid))
        try:
            await app(scope, receive, send)
        finally:
            announcing.cancel()

    return application


async def _announce(config: Config, main_pid: int) -> None:
    """Announce the gateway as soon as somebody is answered at its port."""
    host, port = config.web.host, config.web.port
    reached = host if is_loopback(host) else {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        try:
            _, writer = await asyncio.open_connection(reached, port)
        except OSError:
            await asyncio.sleep(_ANNOUNCE_EVERY_S)
        else:
            writer.close()
            break
    digest = configuration.gateway_hash(config)
    announce(RunDir(config.run_dir).gateway_info, GatewayInfo(pid=main_pid, host=host, port=port, config_hash=digest))


if __name__ == "__main__":
    sys.exit(exits.guarded(main))
