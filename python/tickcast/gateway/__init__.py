"""The gateway: clients come in over WebSocket and HTTP, trades go out by the pump.

``granian --interface asgi tickcast.gateway:app`` serves it, configured by environment and file like every other
process; ``python -m tickcast.gateway`` brings Granian along. The application is made when it is first asked for, in
the process that serves it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickcast.gateway.asgi import App

    app: App

__all__ = ["app"]


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tickcast.gateway.asgi import app_of_environment  # noqa: PLC0415  # importing codes must not build a server

    return app_of_environment()
