"""Who may call: a token in the metadata, where the configuration names one."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["TokenCheck"]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_OPEN = "/grpc.health.v1.Health/"
"""Answered to anybody, like the health of the web: it says nothing of what is traded."""


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without ``authorization: Bearer TOKEN``."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of the call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN):
            return handler
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        kind, _, value = str(given).partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), self._token):
            return handler
        # Refused once the handler runs: only then does the library tell the client why.
        make = _MAKERS[handler.request_streaming, handler.response_streaming]
        return make(_refuse)


_MAKERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


async def _refuse(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed: metadata authorization: Bearer TOKEN")
