"""Ticks over gRPC: tickcast beside the servicer that one would write first, in one run on one machine.

    python benchmarks/process_stream.py [--runs 3] [--seconds 3] [--write]

Both servers are up all the time, and take turns. The client (`load/`, Rust, one thread) keeps messages ahead of their
answers, and only counts the answers. Against `naive_servicer.py`: protobuf objects, Pydantic, one tick at a time, the
event loop that comes with Python. Single ticks with a trivial rule are measured twice: both servers as they come, with
all cores, and both bound to the first core with the client on the last, so that nobody gains by threads. (Not called
grpc.py: beside it `import grpc` would mean itself.)
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
CLIENT = str(HERE.parent / "target" / "release" / "tickcast-load-grpc")
WARM_UP_S = 0.5
RULES = """
import tickcast as tc
from tickcast.examples.quantlib import QuantLibrary

trivial = tc.RuleSet("trivial", version="1")

@trivial.check(reason="no")
def positive(ticks):
    return ticks.price > 0

waiting = tc.RuleSet("waiting", version="1")
waiting.adopt(QuantLibrary().validate_and_enrich)
"""


class Question(NamedTuple):
    """What is measured of both."""

    words: str
    rules: str
    workers: int
    ours: tuple[str, ...]
    naive: tuple[str, ...]
    pinned: bool = False


QUESTIONS = [
    Question("single ticks, trivial rule in line, 1 call", "trivial", 0, (), ()),
    Question("single ticks, trivial rule in line, 4 calls", "trivial", 0, ("--calls", "4"), ("--calls", "4")),
    Question("the same, 1 call, each server on one core", "trivial", 0, (), (), pinned=True),
    Question(
        "the same, 4 calls, each server on one core", "trivial", 0, ("--calls", "4"), ("--calls", "4"), pinned=True
    ),
    Question("single ticks, a rule that waits 10 ms, 1 call", "waiting", 1, ("--ahead", "8192"), ("--ahead", "8192")),
    Question("64 ticks a message, against single ticks", "trivial", 1, ("--batch", "64", "--ahead", "64"), ()),
    Question("512 ticks a message, against single ticks", "trivial", 1, ("--batch", "512", "--ahead", "16"), ()),
    Question("4,096 ticks a message, against single ticks", "trivial", 1, ("--batch", "4096", "--ahead", "8"), ()),
]
WAITS = Question("a client that waits for each answer", "trivial", 1, ("--ahead", "1"), ("--ahead", "1"))


class Server(NamedTuple):
    """A server that runs."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time of it and the processes that it has started."""
        ticks = 0
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *children):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(*command: str, cwd: Path, pinned: bool) -> Iterator[Server]:
    """Run a server whose first line ends with its address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TICKCAST_")}
    taskset = ["taskset", "-c", "0"] if pinned else []
    argv = [*taskset, sys.executable, *command]
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process.stdout.readline().rpartition("=")[2].strip(), process.pid)
    finally:
        process.terminate()
        process.wait()


def load(server: Server, seconds: float, *options: str, pinned: bool) -> dict:
    """Run the client once; add the server's CPU time for a tick."""
    client = [*(["taskset", "-c", str(os.cpu_count() - 1)] if pinned else []), CLIENT]
    command = [*client, server.address, "--seconds", str(seconds), "--warmup", str(WARM_UP_S), *options]
    before = server.cpu_s()
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    # The client counts what comes after it has warmed up; the server has worked since before.
    found["cpu_us"] = (server.cpu_s() - before) / (found["ticks_per_s"] * (seconds + WARM_UP_S)) * 1e6
    return found


def ask(question: Question, folder: Path, runs: int, seconds: float) -> tuple[list[dict], list[dict]]:
    """Measure both, in turns, on fresh servers."""
    process = ("-m", "tickcast", "process", "--grpc-port", "0", "--run-dir", str(folder / "run"))
    process += ("--rules", f"benchrules:{question.rules}", "--rule-workers", str(question.workers))
    naive = (str(HERE / "naive_servicer.py"), str(folder), *(["--wait"] if question.rules == "waiting" else []))
    found: tuple[list[dict], list[dict]] = ([], [])
    pinned = question.pinned
    with (
        server(*process, cwd=folder, pinned=pinned) as ours,
        server(*naive, cwd=folder, pinned=pinned) as theirs,
    ):
        for _ in range(runs):
            found[0].append(load(ours, seconds, *question.ours, pinned=pinned))
            found[1].append(load(theirs, seconds, *question.naive, pinned=pinned))
    return found


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "tickcast-load"], cwd=HERE.parent, check=True)
    lines = [
        "# Ticks over gRPC",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "
        f"CPython {platform.python_version()}, grpcio {version('grpcio')}; median of {args.runs} runs of "
        f'{args.seconds:g} s, both servers in turns. Client and server share the machine; where it says "on one core" '
        "the server is bound to the first core and the client to the last. The naive servicer: protobuf objects, a "
        "Pydantic model and a rolling window for each tick, the event loop that comes with Python. tickcast: exact "
        "windows, all else as it comes. CPU is the server's, kernel included, its rule workers too.",
        "",
        "| | tickcast, ticks/s | naive servicer, ticks/s | ratio (of each run) | CPU a tick, µs |",
        "|---|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "benchrules.py").write_text(RULES)
        proto = HERE.parent / "proto"
        protoc.main(["", f"-I{proto}", f"--python_out={name}", f"--grpc_python_out={name}", "market_data.proto"])
        for question in QUESTIONS:
            both = ask(question, folder, args.runs, args.seconds)
            ours, naive = ([run["ticks_per_s"] for run in runs] for runs in both)
            cpu = [statistics.median(run["cpu_us"] for run in runs) for runs in both]
            ratios = [a / b for a, b in zip(ours, naive, strict=True)]
            lines.append(
                f"| {question.words} | {statistics.median(ours):,.0f} | {statistics.median(naive):,.0f} "
                f"| **{statistics.median(ratios):,.1f}** ({', '.join(f'{r:,.1f}' for r in ratios)}) "
                f"| {cpu[0]:.1f}, {cpu[1]:.1f} |"
            )
            print(lines[-1], flush=True)
        ours, naive = ask(WAITS, folder, args.runs, args.seconds)
    shown = []
    for who, runs in (("tickcast, a rule worker included", ours), ("naive servicer", naive)):
        p50, p99 = (statistics.median(run["round_trip_ms"][p] for run in runs) for p in ("p50", "p99"))
        shown.append(f"{who}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    lines += ["", f"A client that waits for each answer: {'; '.join(shown)}."]
    report = "\n".join(lines) + "\n"
    print(report)
    if args.write:
        (HERE / "results" / "grpc.md").write_text(report)


if __name__ == "__main__":
    main()
