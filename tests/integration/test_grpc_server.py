"""What surrounds the services: health, reflection, TLS, tokens, limits, and an orderly end."""

import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import trustme
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fixtures.grpcclient import channel
from fixtures.processes import Program, Programs, free_port
from tickcast.rundir import ProcessorInfo, RunDir, read_announcement

SERVICES = ["marketdata.MarketDataProcessor", "tickcast.v1.MarketDataProcessor"]
TICK = b"\n\x04SYM1\x11\0\0\0\0\0\0Y@\x18\x05 \x01"


def start(programs: Programs, run_dir: Path, *options: str, **settings: object) -> tuple[Program, str]:
    """Start a processor without a source and return it with its gRPC address."""
    env = {f"TICKCAST_{name.upper()}": str(value) for name, value in settings.items()}
    program = programs.tickcast("process", "--run-dir", str(run_dir), *options, **env)
    return program, program.expect("ready grpc=").removeprefix("ready grpc=")


def stream(opened: grpc.Channel, ticks: Iterator[bytes], **options: object) -> grpc.Call:
    """Call ProcessStream with raw messages."""
    return opened.stream_stream("/marketdata.MarketDataProcessor/ProcessStream")(ticks, timeout=20, **options)


def refusal(call: Iterator[bytes]) -> tuple[grpc.StatusCode, str]:
    """Return how a call that must fail fails."""
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    return raised.value.code(), raised.value.details()


class Spoken(NamedTuple):
    """A call whose ticks are sent one by one."""

    sent: "queue.SimpleQueue[bytes | None]"
    answers: grpc.Call


def talk(opened: grpc.Channel) -> Spoken:
    """Open a call and send its first tick."""
    sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    spoken = Spoken(sent, stream(opened, iter(sent.get, None)))
    sent.put(TICK)
    next(spoken.answers)
    return spoken


def test_health_is_serving_until_the_drain_and_streams_get_their_last_answers(
    programs: Programs, run_dir: Path
) -> None:
    program, address = start(programs, run_dir, grpc_drain_ms="5000")
    with channel(address) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        for name in ["", *SERVICES]:
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == 1
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]), timeout=20)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING

        spoken = talk(opened)
        for _ in range(500):
            spoken.sent.put(TICK)
        first = next(spoken.answers)
        program.signal(signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answers = [first]
        with pytest.raises(grpc.RpcError) as ended:
            answers += spoken.answers  # keeps what came before it raised
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "call again" in ended.value.details()
        spoken.sent.put(None)
    assert program.wait() == 0
    assert program.errors[-1].startswith("tickcast: no ")


def test_reflection_describes_the_contract_as_grpcurl_asks_for_it(programs: Programs, run_dir: Path) -> None:
    program, address = start(programs, run_dir)
    with channel(address) as opened:
        database = ProtoReflectionDescriptorDatabase(opened)
        assert set(SERVICES) < set(database.get_services())
        pool = DescriptorPool(database)
        method = pool.FindServiceByName(SERVICES[0]).FindMethodByName("ProcessStream")
        tick, trade = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        assert method.client_streaming
        assert method.server_streaming
        asked = tick(instrument_id="SYM1", price=100.0, volume=5)
        (answer,) = stream(opened, iter([asked.SerializeToString()]))
        assert trade.FromString(answer).volume == 5
        assert pool.FindServiceByName(SERVICES[1]).FindMethodByName("ProcessBatches")
        # The released name of the service, which newer clients ask for.
        released = opened.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (listed,) = released(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)
        assert set(SERVICES) < {service.name for service in listed.list_services_response.service}
    assert program.end() == 0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Settings of a server with a certificate."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    return {
        "grpc_tls_cert": pem(tmp_path, "cert.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        "grpc_tls_key": pem(tmp_path, "key.pem", issued.private_key_pem.bytes()),
    }


def test_tls_is_spoken_and_nothing_else(
    programs: Programs, run_dir: Path, authority: trustme.CA, tls: dict[str, str]
) -> None:
    _, address = start(programs, run_dir, **tls)
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with grpc.secure_channel(address, trusted) as opened:
        assert len(list(stream(opened, iter([TICK])))) == 1
    for credentials in (None, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())):
        other = channel(address) if credentials is None else grpc.secure_channel(address, credentials)
        with other as opened:
            assert refusal(stream(opened, iter([TICK])))[0] == grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_lets_in_whom_the_authority_knows(
    programs: Programs, run_dir: Path, tmp_path: Path, authority: trustme.CA, tls: dict[str, str]
) -> None:
    ca = pem(tmp_path, "ca.pem", authority.cert_pem.bytes())
    _, address = start(programs, run_dir, "--grpc-host", "0.0.0.0", **tls, grpc_tls_client_ca=ca)
    address = address.replace("0.0.0.0", "127.0.0.1")

    def credentials(issuer: trustme.CA) -> grpc.ChannelCredentials:
        client = issuer.issue_cert("client@desk.example")
        return grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(), client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
        )

    with grpc.secure_channel(address, credentials(authority)) as opened:
        assert len(list(stream(opened, iter([TICK])))) == 1
    for stranger in (credentials(trustme.CA()), grpc.ssl_channel_credentials(authority.cert_pem.bytes())):
        with grpc.secure_channel(address, stranger) as opened:
            assert refusal(stream(opened, iter([TICK])))[0] == grpc.StatusCode.UNAVAILABLE


def test_wrong_certificates_are_refused_at_start(
    programs: Programs, run_dir: Path, tmp_path: Path, tls: dict[str, str]
) -> None:
    other_key = pem(tmp_path, "other.pem", trustme.CA().private_key_pem.bytes())
    wrong = {
        "can't read": {**tls, "grpc_tls_key": str(tmp_path / "none.pem")},
        "no PEM certificate": {**tls, "grpc_tls_key": other_key},
        "must be given together": {"grpc_tls_cert": tls["grpc_tls_cert"]},
    }
    for words, settings in wrong.items():
        env = {f"TICKCAST_{name.upper()}": value for name, value in settings.items()}
        program = programs.tickcast("process", "--run-dir", str(run_dir), **env)
        assert program.wait() == 2
        assert words in program.errors[-1]


def test_a_public_address_needs_authentication(programs: Programs, run_dir: Path) -> None:
    refused = programs.tickcast("process", "--run-dir", str(run_dir), "--grpc-host", "0.0.0.0")
    assert refused.wait() == 2
    assert "grpc.host: 0.0.0.0 is reachable from other machines" in refused.errors[-1]
    opened, _ = start(programs, run_dir, "--grpc-host", "0.0.0.0", "--insecure-public")
    assert opened.end() == 0


def test_a_token_is_asked_for(programs: Programs, run_dir: Path) -> None:
    _, address = start(programs, run_dir, "--grpc-host", "0.0.0.0", grpc_auth_token="s3cret")
    with channel(address.replace("0.0.0.0", "127.0.0.1")) as opened:
        for given in [(), [("authorization", "Bearer wrong")], [("authorization", "Basic s3cret")]]:
            code, details = refusal(stream(opened, iter([TICK]), metadata=given))
            assert code == grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer TOKEN" in details
        right = [("authorization", "Bearer s3cret")]
        assert len(list(stream(opened, iter([TICK]), metadata=right))) == 1
        health = health_pb2_grpc.HealthStub(opened)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1


def test_messages_and_streams_are_limited(programs: Programs, run_dir: Path) -> None:
    _, address = start(programs, run_dir, grpc_max_message_bytes="1KiB", grpc_max_streams="2")
    with channel(address) as opened:
        code, details = refusal(stream(opened, iter([TICK, b"\n" + b"\xff\x1f" + b"A" * 4095])))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1024" in details
        held = [talk(opened) for _ in range(2)]
        with channel(address, use_local_subchannel_pool=1) as second:
            assert refusal(stream(second, iter([TICK])))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        for spoken in held:
            spoken.sent.put(None)
            assert list(spoken.answers) == []
        assert len(list(stream(opened, iter([TICK])))) == 1


def test_a_port_in_use_is_one_clear_line(programs: Programs, run_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (("process",), ("serve", "--source", "sim://", "--port", "0")):
            program = programs.tickcast(*command, "--grpc-port", str(port), "--run-dir", str(run_dir))
            assert program.wait() == 2
            assert program.errors[-1] == (
                f"tickcast: error: grpc.port: can't listen on 127.0.0.1:{port}: Address already in use; "
                "choose another with --grpc-port (0: a free one)"
            )


def test_two_processors_do_not_share_a_port(programs: Programs, tmp_path: Path) -> None:
    port = str(free_port())
    first, _ = start(programs, tmp_path / "one", "--grpc-port", port)
    second = programs.tickcast("process", "--run-dir", str(tmp_path / "two"), "--grpc-port", port)
    assert second.wait() == 2
    first.signal(signal.SIGKILL)
    first.wait()
    _, address = start(programs, tmp_path / "one", "--grpc-port", port)
    assert address == f"127.0.0.1:{port}"


def test_a_silent_connection_is_given_up(programs: Programs, run_dir: Path) -> None:
    """A peer that keeps its socket open and answers no ping, as one behind a dead link."""
    _, address = start(programs, run_dir, grpc_keepalive_ms="1000", grpc_keepalive_timeout_ms="300")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0")
        while peer.recv(65_536):
            pass  # its settings and pings; then it hangs up


def test_serve_says_both_addresses_and_a_killed_processor_comes_back_on_its_port(
    programs: Programs, run_dir: Path
) -> None:
    serve = programs.tickcast("serve", "--source", "sim://?rate=100", "--port", "0", "--run-dir", str(run_dir))
    address = serve.expect("ready web=").split(" grpc=")[1]
    info = read_announcement(RunDir(run_dir).processor_info, ProcessorInfo)
    assert info is not None
    assert info.grpc == address
    os.kill(info.pid, signal.SIGKILL)
    with channel(address) as opened:
        back = threading.Event()
        opened.subscribe(lambda state: back.set() if state == grpc.ChannelConnectivity.READY else None, True)
        assert back.wait(30)
        assert len(list(stream(opened, iter([TICK]), wait_for_ready=True))) == 1
    assert serve.end() == 0
