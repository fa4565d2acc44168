"""The supervisor over real processes: any of them may be killed at any moment, and nobody else falls."""

import os
import signal
import socket
from pathlib import Path

import msgspec
import pytest

from fixtures.processes import Program, Programs, free_port, lives, wait_until
from tickcast.rundir import GatewayInfo, Lock, ProcessorInfo, RunDir, read_announcement

SUPERVISE = str(Path(__file__).parents[1] / "fixtures" / "supervise.py")
STANDIN = str(Path(__file__).parents[1] / "fixtures" / "standin.py")


class Site:
    """A run directory with its supervisors and children."""

    def __init__(self, programs: Programs, path: Path) -> None:
        self.programs = programs
        self.run = RunDir(path)

    def supervise(self, **env: str) -> Program:
        """Start a supervisor on a free port."""
        env = {"TICKCAST_WEB_PORT": "0", "TICKCAST_RUN_DIR": str(self.run.path)} | env
        return self.programs.python(SUPERVISE, **env)

    def keeper(self, **env: str) -> Program:
        """Start what stands for a gateway worker under plain Granian."""
        return self.programs.python(SUPERVISE, "keeper", TICKCAST_RUN_DIR=str(self.run.path), **env)

    def processor(self, other_than: int = 0) -> int:
        """Return the pid of the processor that is up."""
        return self._announced(self.run.processor_info, ProcessorInfo, other_than)

    def gateway(self, other_than: int = 0) -> int:
        """Return the pid of the gateway that is up."""
        return self._announced(self.run.gateway_info, GatewayInfo, other_than)

    def worker(self, role: str) -> int:
        """Return the pid of the process that a child has started."""
        return int((self.run.path / f"{role}-worker.pid").read_text())

    def starts(self, role: str) -> int:
        """Return how often a child was started."""
        return len((self.run.path / f"{role}-starts").read_text().splitlines())

    def ended(self) -> list[str]:
        """Return the children that ended in order, first one first."""
        path = self.run.path / "ended"
        return path.read_text().splitlines() if path.exists() else []

    def _announced(self, path: Path, kind: type, other_than: int) -> int:
        def look() -> int | None:
            info = read_announcement(path, kind)
            return info.pid if info and info.pid != other_than and lives(info.pid) else None

        return self.programs.adopt(wait_until(look, f"an announcement in {path.name}"))


@pytest.fixture
def site(programs: Programs, run_dir: Path) -> Site:
    return Site(programs, run_dir)


def port_of(ready: str) -> int:
    return int(ready.split()[1].rpartition(":")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_gateway_first_then_processor_and_exits_with_0(site: Site, number: int) -> None:
    supervisor = site.supervise()
    supervisor.expect("ready web=http://127.0.0.1:")
    processor, gateway = site.processor(), site.gateway()
    workers = [site.worker("processor"), site.worker("gateway")]
    assert supervisor.end(number) == 0
    assert site.ended() == ["gateway", "processor"]
    assert not any(lives(pid) for pid in [processor, gateway, *workers])


def test_killed_processor_is_started_again_and_gateway_does_not_notice(site: Site) -> None:
    supervisor = site.supervise()
    supervisor.expect("ready")
    processor, gateway, worker = site.processor(), site.gateway(), site.worker("processor")
    os.kill(processor, signal.SIGKILL)
    assert site.processor(other_than=processor)
    assert lives(gateway)
    assert site.gateway() == gateway
    assert site.starts("gateway") == 1
    wait_until(lambda: not lives(worker), "the end of the dead processor's worker")
    assert supervisor.end() == 0


def test_killed_gateway_comes_back_on_the_same_port(site: Site) -> None:
    supervisor = site.supervise()
    port = port_of(supervisor.expect("ready"))
    processor, gateway = site.processor(), site.gateway()
    os.kill(gateway, signal.SIGKILL)
    site.gateway(other_than=gateway)
    info = read_announcement(site.run.gateway_info, GatewayInfo)
    assert info is not None
    assert info.port == port
    assert site.processor() == processor
    assert supervisor.end() == 0


def test_killed_supervisor_leaves_children_and_a_new_one_adopts_them(site: Site) -> None:
    first = site.supervise()
    ready = first.expect("ready")
    processor, gateway = site.processor(), site.gateway()
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = site.supervise()
    assert second.expect("ready") == ready
    assert (site.processor(), site.gateway()) == (processor, gateway)
    assert (site.starts("processor"), site.starts("gateway")) == (1, 1)
    # An adopted child is kept alive like one's own, and ended like one's own.
    os.kill(processor, signal.SIGKILL)
    successor = site.processor(other_than=processor)
    assert second.end() == 0
    assert not lives(gateway)
    assert not lives(successor)
    assert site.ended() == ["gateway", "processor"]


def test_supervisor_killed_while_children_start_is_followed_by_one_pair_of_children(site: Site) -> None:
    first = site.supervise()
    wait_until(lambda: Lock.holder(site.run.processor_lock), "the processor's lock")
    first.signal(signal.SIGKILL)
    first.wait()
    second = site.supervise()
    second.expect("ready")
    site.processor()
    site.gateway()
    assert site.starts("processor") == 1
    assert second.end() == 0


def test_living_processor_with_another_configuration_is_refused_by_pid_and_run_dir(site: Site) -> None:
    first = site.supervise()
    first.expect("ready")
    processor, gateway = site.processor(), site.gateway()
    first.signal(signal.SIGKILL)
    first.wait()
    second = site.supervise(TICKCAST_WINDOW_HOLD="180m")
    assert second.wait() == 2
    assert len(second.errors) == 1
    assert f"(pid {processor})" in second.errors[0]
    assert str(site.run.path) in second.errors[0]
    assert lives(processor)
    assert lives(gateway)


def test_second_supervisor_is_refused_by_pid(site: Site) -> None:
    first = site.supervise()
    first.expect("ready")
    second = site.supervise()
    assert second.wait() == 1
    assert second.errors == [
        f"tickcast: error: a tickcast (pid {first.pid}) already runs in {site.run.path}; give another --run-dir"
    ]
    assert first.end() == 0


def test_port_in_use_is_one_line_and_starts_nothing(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = site.supervise(TICKCAST_WEB_PORT=str(port))
        assert supervisor.wait() == 2
    assert supervisor.errors == [f"tickcast: error: web.port: can't listen on 127.0.0.1:{port}: Address already in use"]
    assert not site.run.processor_info.exists()


def test_refused_configuration_of_a_child_is_its_one_line_and_exit_code_2(site: Site) -> None:
    supervisor = site.supervise(TICKCAST_TEST_PROCESSOR="refuse")
    assert supervisor.wait() == 2
    assert supervisor.errors == ["tickcast: error: rules: no module named 'nowhere'"]
    assert not any(lives(pid) for pid in filter(None, [Lock.holder(site.run.gateway_lock)]))


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_debug_shows_where_a_child_failed_and_nothing_less_does(site: Site, level: str, shown: bool) -> None:
    supervisor = site.supervise(TICKCAST_TEST_PROCESSOR="explode", TICKCAST_LOG_LEVEL=level)
    assert supervisor.wait() == 1
    assert supervisor.errors[-1].endswith("ValueError: the tape is on fire (TICKCAST_LOG_LEVEL=debug shows where)")
    assert any(line.startswith("processor: Traceback") for line in supervisor.errors) == shown


def test_crash_loop_gives_up_with_the_last_line_of_the_child(site: Site) -> None:
    supervisor = site.supervise(TICKCAST_TEST_PROCESSOR="crash")
    assert supervisor.wait() == 1
    assert supervisor.errors[-1] == (
        "tickcast: error: processor failed 3 times in a row, the last one ended with exit code 3; "
        "it last said: ValueError: the tape is on fire"
    )


def test_child_that_ignores_the_signal_is_killed_after_its_grace(site: Site) -> None:
    supervisor = site.supervise(TICKCAST_TEST_GATEWAY="stubborn")
    supervisor.expect("ready")
    gateway, worker = site.gateway(), site.worker("gateway")
    assert supervisor.end() == 0
    assert not lives(gateway)
    wait_until(lambda: not lives(worker), "the end of the gateway's worker")
    assert site.ended() == ["processor"]


def test_ready_is_not_said_before_the_gateway_answers_200(site: Site) -> None:
    supervisor = site.supervise(TICKCAST_TEST_GATEWAY="deaf")
    site.gateway()
    site.processor()
    wait_until(lambda: any("gateway says hello" in line for line in supervisor.errors), "the gateway's log")
    assert supervisor.end() == 0
    assert supervisor.lines == []


def test_log_of_children_is_copied_to_stderr(site: Site) -> None:
    supervisor = site.supervise()
    supervisor.expect("ready")
    for role in ("processor", "gateway"):
        wait_until(lambda r=role: f"{r}: {r} says hello" in supervisor.errors, f"the log of the {role}")
    assert supervisor.end() == 0


def test_fixed_port_is_used(site: Site) -> None:
    port = free_port()
    supervisor = site.supervise(TICKCAST_WEB_PORT=str(port))
    assert supervisor.expect("ready").startswith(f"ready web=http://127.0.0.1:{port} grpc=127.0.0.1:")
    assert supervisor.end() == 0


def test_keeper_of_a_killed_worker_is_followed_by_another_that_adopts_the_processor(site: Site) -> None:
    first = site.keeper()
    first.expect("keeper keeps")
    processor = site.processor()
    second = site.keeper()
    second.expect("keeper up")
    first.signal(signal.SIGKILL)
    first.wait()
    second.expect("keeper keeps")
    os.kill(processor, signal.SIGKILL)
    assert site.processor(other_than=processor)
    assert second.end() == 0


def test_last_keeper_to_leave_ends_the_processor_and_no_earlier_one(site: Site) -> None:
    first = site.keeper()
    first.expect("keeper keeps")
    processor = site.processor()
    second = site.keeper()
    second.expect("keeper up")
    assert first.end() == 0
    second.expect("keeper keeps")
    assert lives(processor)
    assert second.end() == 0
    assert not lives(processor)
    assert site.ended() == ["processor"]


def test_keepers_that_leave_at_once_end_the_processor_once(site: Site) -> None:
    keepers = [site.keeper() for _ in range(3)]
    for keeper in keepers:
        keeper.expect("keeper up")
    processor = site.processor()
    for keeper in keepers:
        keeper.signal(signal.SIGTERM)
    assert [keeper.wait() for keeper in keepers] == [0, 0, 0]
    wait_until(lambda: not lives(processor), "the end of the processor")
    assert site.starts("processor") == 1


def test_stale_announcement_is_not_believed(site: Site) -> None:
    run = RunDir.create(site.run.path)
    stale = ProcessorInfo(pid=os.getpid(), config_hash="0", started_ns=0)
    run.processor_info.write_bytes(msgspec.json.encode(stale))
    supervisor = site.supervise()
    supervisor.expect("ready")
    assert site.processor() != os.getpid()
    assert supervisor.end() == 0
