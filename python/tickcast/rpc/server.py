"""The gRPC server: where it listens, who may come in, what a connection may cost, and how it ends."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

# Before grpc is imported: it writes to stderr otherwise, and looks after forks, which are not made here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tickcast.addresses import choose_port, host_port
from tickcast.config import Grpc
from tickcast.errors import ConfigError
from tickcast.rpc.security import TokenCheck
from tickcast.rpc.services import Service

__all__ = ["RpcServer"]

_REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""The library has the name of the draft only; messages are the same."""
_LEAST_PING_MS = 1_000
"""Clients may ping this often, also without a call: that is how they notice a dead link."""


class RpcServer:
    """A gRPC server with health and reflection. Belongs to one event loop.

    Args:
        config: Address, security and limits.
        services: What is offered.
        draining: Set by `drain` before anything is cut off.
    """

    def __init__(self, config: Grpc, services: Sequence[Service], draining: asyncio.Event) -> None:
        self._config = config
        self._names = [service.name for service in services]
        self._draining = draining
        self._health = health.aio.HealthServicer()
        checks = [TokenCheck(config.auth_token)] if config.auth_token else []
        with _threads_that_let_others_finish():
            self._server = grpc.aio.server(
                interceptors=checks, options=_options(config), maximum_concurrent_rpcs=config.max_streams
            )
        for service in services:
            handler = grpc.method_handlers_generic_handler(service.name, service.methods)
            self._server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._reflect()
        self.address = ""
        """Where it listens, ``host:port``; known after `start`."""

    def _reflect(self) -> None:
        names = [*self._names, health.SERVICE_NAME, *_REFLECTION]
        servicer = reflection.aio.ReflectionServicer(names, pool=_contract())
        method = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in _REFLECTION:
            handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            self._server.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Listen and take calls.

        Raises:
            ConfigError: The address can't be listened on, or a file of the certificates not read.
        """
        host, port = self._config.host, self._config.port
        credentials = _credentials(self._config)
        choose_port(host, port, section="grpc")  # grpc does not say why it can't listen
        try:
            if credentials is None:
                port = self._server.add_insecure_port(host_port(host, port))
            else:
                port = self._server.add_secure_port(host_port(host, port), credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"grpc.port: can't listen on {host_port(host, self._config.port)}")
        self.address = host_port(host, port)
        with _threads_that_let_others_finish():
            await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """End in order: health says NOT_SERVING, streams get their last answers, what is left is cut off."""
        await self._health.enter_graceful_shutdown()
        self._draining.set()
        await self._server.stop(self._config.drain_ms / 1_000)


@contextlib.contextmanager
def _threads_that_let_others_finish() -> Iterator[None]:
    """Have the library's threads, which are started within, not preempt whoever runs.

    It hands each message from thread to thread. Woken at once they would take the core from the event loop for every
    single one; so the loop does what it has, and they come with more. Threads inherit this from who starts them.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    own = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, own, os.sched_param(0))


def _options(config: Grpc) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a share of it
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", config.max_streams),
        ("grpc.keepalive_time_ms", config.keepalive_ms),
        ("grpc.keepalive_timeout_ms", config.keepalive_timeout_ms),
        # What really gives a silent peer up: by itself keepalive_timeout_ms only does while a call is under way.
        ("grpc.http2.ping_timeout_ms", config.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _LEAST_PING_MS),
    ]


def _credentials(config: Grpc) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    pair = (_file("tls_key", config.tls_key), _file("tls_cert", config.tls_cert))
    try:  # grpc takes anything, and fails when the first client comes
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key)
    except ssl.SSLError as error:
        raise ConfigError(
            f"grpc.tls_cert, grpc.tls_key: {config.tls_cert} and {config.tls_key} are no PEM certificate "
            f"and its unencrypted key: {error.reason or error}"
        ) from None
    authorities = _file("tls_client_ca", config.tls_client_ca) if config.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


def _file(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"grpc.{key}: can't read {path}: {error.strerror}") from None


def _contract() -> DescriptorPool:
    """Return our contract for reflection, in a pool of its own: rules may have generated code of the same files."""
    pool = DescriptorPool()
    known = FileDescriptorSet.FromString(files("tickcast.rpc").joinpath("contract.binpb").read_bytes())
    for proto in known.file:
        pool.Add(proto)
    for module in (health_pb2, reflection_pb2):
        with contextlib.suppress(TypeError):
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
