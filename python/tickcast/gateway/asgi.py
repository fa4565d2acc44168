"""The ASGI application: Litestar inside, and around it what must come first.

The outermost layer turns away who may not come in, before anything is parsed, and keeps the server's own ``send`` and
``receive`` for the WebSocket handler: the pump calls ``send`` from its thread, which Litestar's wrappers are not for.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, cast

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException, WebSocketException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from tickcast import config as configuration
from tickcast.config import Config
from tickcast.gateway import api, health, sse, static
from tickcast.gateway.codes import CloseCode
from tickcast.gateway.security import Gatekeeper, Refusal
from tickcast.gateway.server import Farewell, die_with_parent
from tickcast.gateway.worker import Worker
from tickcast.gateway.ws import SUBPROTOCOLS, deny, marketdata

__all__ = ["App", "app_of_environment"]

_log = logging.getLogger(__name__)

Scope = dict[str, Any]


class App:
    """The application of one worker process."""

    def __init__(self, config: Config) -> None:
        die_with_parent()
        self.worker = Worker(config)
        self._farewell = Farewell()
        self._gatekeeper = Gatekeeper(config.web)
        self._litestar = self._build()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types
        """Serve a connection."""
        if scope["type"] != "lifespan":
            refusal = self._gatekeeper.refusal(scope)
            if refusal is not None:
                await _refuse(refusal, scope, receive, send)
                return
        if scope["type"] == "websocket":
            scope["tickcast.send"], scope["tickcast.receive"] = send, receive
        await self._litestar(cast("Any", scope), receive, send)

    def _build(self) -> Litestar:
        worker = self.worker

        @asynccontextmanager
        async def lifespan(_: Litestar) -> AsyncIterator[None]:
            await worker.start()
            self._farewell.before_stopping(worker.drain)
            try:
                yield
            finally:
                await worker.close()

        return Litestar(
            route_handlers=[marketdata, sse.events, health.health, health.ready, *api.HANDLERS, *static.HANDLERS],
            dependencies={"worker": Provide(lambda: worker, sync_to_thread=False)},
            lifespan=[lifespan],
            openapi_config=OpenAPIConfig(
                title="tickcast",
                version=metadata.version("tickcast"),
                path="/schema",
                render_plugins=[JsonRenderPlugin(path="/")],
            ),
            after_exception=[_report],
            logging_config=None,
        )


async def _report(problem: Exception, scope: Any) -> None:  # noqa: ANN401  # Litestar's own types
    """Log what nobody has thought of; Litestar only answers, with 500 or close code 4500."""
    if not isinstance(problem, HTTPException | WebSocketException):
        _log.error("%s %s failed", scope["type"], scope["path"], exc_info=problem)


def app_of_environment() -> App:
    """Return the application as the process's environment and files configure it."""
    return App(configuration.from_process_env())


async def _refuse(refusal: Refusal, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types
    status, reason = refusal
    if scope["type"] == "websocket":
        await receive()
        chosen = next((name for name in scope["subprotocols"] if name in SUBPROTOCOLS), None)
        if status == 401 and chosen is not None:
            # A browser sees nothing of a refused handshake; a close code tells the page not to come back.
            await send({"type": "websocket.accept", "subprotocol": chosen})
            await send({"type": "websocket.close", "code": CloseCode.UNAUTHORIZED, "reason": reason})
        else:
            await deny(send, status, reason)
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start = {"type": "http.response.start", "status": int(status), "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": reason.encode() + b"\n"})
