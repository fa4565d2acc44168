"""Status codes with details, as ``google.rpc.Status`` carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

__all__ = ["DETAILS_KEY", "abort", "detail", "retry_after_s", "retry_later"]

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata with the details, by convention."""


async def abort(
    context: grpc.aio.ServicerContext[bytes, bytes], code: grpc.StatusCode, why: str, *details: Message
) -> None:
    """End a call. Raises, always."""
    if not details:
        await context.abort(code, why)
        return
    status = status_pb2.Status(code=code.value[0], message=why)
    for one in details:
        packed = any_pb2.Any()
        packed.Pack(one)
        status.details.append(packed)
    await context.abort(code, why, ((DETAILS_KEY, status.SerializeToString()),))


def retry_later(delay_ms: int = 1_000) -> Message:
    """Return the detail that says when to call again."""
    seconds, rest = divmod(delay_ms, 1_000)
    info: Message = error_details_pb2.RetryInfo(
        retry_delay=duration_pb2.Duration(seconds=seconds, nanos=rest * 1_000_000)
    )
    return info


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """Return how long the server asks to stay away, seconds."""
    found = error_details_pb2.RetryInfo()
    if not detail(error, found):
        return 0.0
    return float(found.retry_delay.seconds) + float(found.retry_delay.nanos) / 1e9


def detail(error: grpc.aio.AioRpcError, into: Message) -> bool:
    """Take the detail of this kind out of an error; False where it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            raw = value if isinstance(value, bytes) else value.encode()
            for packed in status_pb2.Status.FromString(raw).details:
                if packed.Unpack(into):
                    return True
    return False
