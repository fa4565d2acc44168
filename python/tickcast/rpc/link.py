"""The receiving side of ``tickcast.v1.Tape``: one connection, opened and listened to until it is lost."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import msgspec

from tickcast.errors import ConfigError, LinkLostError, LinkRefusedError, TickcastError
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.status import detail, retry_after_s

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from tickcast import urls

__all__ = ["AgedOutError", "LinkLostError", "LinkRefusedError", "TapeLink", "Target"]

JUDGE_S = 1.5
"""How long a verdict may take."""
CONNECT_S = 5.0
"""How long a connection, and the first answer, may take."""
SILENCE_S = 2.5
"""Without a sign from the server for so much longer than its heartbeat, the link is dead, whatever TCP says."""
_KEEPALIVE_MS = 3_000
_SUBSCRIBE = "/tickcast.v1.Tape/Subscribe"
_SNAPSHOT = "/tickcast.v1.Tape/Snapshot"
_JUDGE = "/tickcast.v1.Tape/Judge"
_FATAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Codes after which trying again would not help."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and how to come in."""

    address: str
    """``host:port``."""
    token: str | None = None
    """Bearer token."""
    tls: bool = False
    """Encrypted."""
    authority: str | None = None
    """File with the certificates of who may vouch for the server; None: the system's."""
    certificate: str | None = None
    """File with the own certificate."""
    key: str | None = None
    """File with its key."""


def target_of(url: urls.Grpc, token: str | None = None) -> Target:
    """Return the server that a URL names; a token of its own goes before."""
    return Target(
        address=url.address,
        token=url.token or token,
        tls=url.tls,
        authority=url.ca,
        certificate=url.cert,
        key=url.key,
    )


class AgedOutError(TickcastError):
    """The tape does not have what a strict subscription asked for."""

    def __init__(self, message: str, epoch: str, oldest: int, newest: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.oldest = oldest
        self.newest = newest


class TapeLink:
    """A channel to one server. Use as an async context manager; one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._metadata = (("authorization", f"Bearer {target.token}"),) if target.token else ()
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> TapeLink:
        options = [
            # A link that both ends believe in, but nobody carries, is noticed by pings within six seconds.
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", -1),
            # Who tries again decides when: a shared connection would remember its own pauses.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        target = self._target
        if target.tls:
            self._channel = grpc.aio.secure_channel(target.address, credentials(target), options)
        else:
            self._channel = grpc.aio.insecure_channel(target.address, options)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def snapshot(self, request: pb.SnapshotRequest) -> pb.SnapshotResponse:
        """Return the newest values.

        Raises:
            LinkLostError: Nobody answers.
            LinkRefusedError: The server refuses.
        """
        call = self._opened.unary_unary(
            _SNAPSHOT,
            request_serializer=pb.SnapshotRequest.SerializeToString,
            response_deserializer=pb.SnapshotResponse.FromString,
        )
        try:
            response: pb.SnapshotResponse = await call(request, timeout=CONNECT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _explained(error, self._target) from None
        return response

    async def judge(self, request: pb.JudgeRequest) -> pb.JudgeResponse:
        """Have a tick judged.

        Raises:
            LinkLostError: Nobody answers.
            LinkRefusedError: The server refuses.
        """
        call = self._opened.unary_unary(
            _JUDGE,
            request_serializer=pb.JudgeRequest.SerializeToString,
            response_deserializer=pb.JudgeResponse.FromString,
        )
        try:
            response: pb.JudgeResponse = await call(request, timeout=JUDGE_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _explained(error, self._target) from None
        return response

    def stream(self, method: str, messages: AsyncGenerator[bytes, None]) -> AsyncIterable[bytes]:
        """Call a method that takes and gives a stream of messages, as bytes."""
        make: Any = self._opened.stream_stream(method)
        return cast("AsyncIterable[bytes]", make(messages, metadata=self._metadata))

    async def frames(self, request: pb.SubscribeRequest) -> AsyncGenerator[pb.Frame, None]:
        """Yield what the server sends until the connection is lost. Never ends otherwise.

        Raises:
            LinkLostError: The connection is lost, or silent for longer than it may be.
            LinkRefusedError: The server refuses.
            AgedOutError: What a strict request asks for can't be had.
        """
        make = self._opened.unary_stream(
            _SUBSCRIBE,
            request_serializer=pb.SubscribeRequest.SerializeToString,
            response_deserializer=pb.Frame.FromString,
        )
        call = make(request, metadata=self._metadata)
        patience_s = CONNECT_S
        try:
            while True:
                try:
                    async with asyncio.timeout(patience_s):
                        frame = await call.read()
                except TimeoutError:
                    raise LinkLostError(f"{self._target.address} has said nothing for {patience_s:g} s") from None
                if not isinstance(frame, pb.Frame):  # the end of the stream
                    raise LinkLostError(f"{self._target.address} has ended the stream")
                if frame.HasField("hello"):
                    patience_s = frame.hello.heartbeat_ms / 1_000 + SILENCE_S
                yield frame
        except grpc.aio.AioRpcError as error:
            raise _explained(error, self._target) from None
        finally:
            call.cancel()

    @property
    def _opened(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the link is not open")
        return self._channel


def credentials(target: Target) -> grpc.ChannelCredentials:
    """Return the credentials of a target with TLS.

    Raises:
        ConfigError: A file can't be read.
    """
    return grpc.ssl_channel_credentials(_file(target.authority), _file(target.key), _file(target.certificate))


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None


def _explained(error: grpc.aio.AioRpcError, target: Target) -> TickcastError:
    """Return our error for one of the library's."""
    said = f"{target.address}: {error.code().name} {error.details() or ''}".rstrip()
    if error.code() == grpc.StatusCode.OUT_OF_RANGE:
        found = pb.Range()
        detail(error, found)
        return AgedOutError(said, found.epoch, found.oldest, found.newest)
    if error.code() in _FATAL:
        return LinkRefusedError(said)
    return LinkLostError(said, retry_after_s(error))
