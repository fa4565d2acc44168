"""Fan-out from a NATS stream to WebSocket clients, everything on this machine.

    python benchmarks/fanout.py [--clients 500] [--rate 1000] [--seconds 10] [--runs 5] [--write] [of the load client]

What it does not know goes to the load client (`tickcast-load --help`): `--format bin`, `--mode latest --max-rate-hz 10
--own 20`, `--acks 262144`, `--stalled 50`, `--throttled 50 --throttle-bytes 20000`, `--per-message 64`.

Starts nats-server, `tickcast serve` (JetStream source, a trivial rule in a worker) and the load client, and prints a
table of the runs with their median. Latency is per trade, from publishing to the return of the client's read, on one
clock. `--write` puts the table into benchmarks/results/.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from fixtures.nats import NatsServer  # noqa: E402 (the path has to be set first)
from fixtures.serving import children  # noqa: E402

SUBJECT = "ticks"
PINNED = "the gateway is on one core, all else on the other"
RULES = """
import tickcast as tc

rules = tc.RuleSet("bench")

@rules.check(reason="never")
def trivial(ticks):
    return ticks.price > 0

@rules.check(reason="never")
def hangs(ticks):
    slow = ticks.of("SLOW")
    while slow.any():
        pass
    return ticks.price > 0
"""


def load_client() -> Path:
    """Build the load client and return its path."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "tickcast-load"], cwd=HERE.parent, check=True)
    return HERE.parent / "target" / "release" / "tickcast-load"


async def make_stream(url: str) -> None:
    """Create the stream that the ticks go to."""
    import nats
    from nats.js.api import StorageType, StreamConfig

    client = await nats.connect(url)
    await client.jetstream().add_stream(
        StreamConfig(name="TICKS", subjects=[SUBJECT], storage=StorageType.FILE, max_bytes=2 * 2**30)
    )
    await client.close()


@contextlib.contextmanager
def served(nats_url: str, folder: Path, *, rules: str = "bench_rules:rules", extra: tuple[str, ...] = ()):
    """Run `tickcast serve` and yield (pid, host:port)."""
    (folder / "bench_rules.py").write_text(RULES)
    command = [sys.executable, "-m", "tickcast", "serve"]
    command += ["--source", f"jetstream://{nats_url.removeprefix('nats://')}/{SUBJECT}?stream=TICKS"]
    command += ["--rules", rules, "--run-dir", str(folder / "run"), "--port", "0", "--grpc-port", "0", *extra]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder)
    try:
        for line in process.stdout:
            if line.startswith(b"ready "):
                break
        else:
            raise RuntimeError((folder / "serve.log").read_text())
        address = line.split(b"web=http://")[1].split()[0].decode()
        yield process.pid, address
    finally:
        process.terminate()
        process.wait(20)


def with_descendants(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    return [pid, *(each for child in children(pid) for each in with_descendants(child))]


def pin(pid: int, core: int) -> None:
    """Keep a process, all its threads, and whatever they start, on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), {core})


def pin_all(folder: Path, pid: int, broker: int) -> None:
    """Put the gateway on the first core, and everything else on the second; the load client follows its parent."""
    info = folder / "run"
    gateway = with_descendants(json.loads((info / "gateway.json").read_text())["pid"])
    processor = with_descendants(json.loads((info / "processor.json").read_text())["pid"])
    for each in {pid, broker, os.getpid(), *processor} - set(gateway):
        pin(each, 1)
    for each in gateway:
        pin(each, 0)


def one_run(binary: Path, args: argparse.Namespace) -> dict:
    """Fresh broker, fresh tape, one measurement."""
    with tempfile.TemporaryDirectory() as name, NatsServer() as server:
        folder = Path(name)
        asyncio.run(make_stream(server.url))
        with served(server.url, folder) as (pid, address):
            command = [str(binary), address, "--nats", server.url.removeprefix("nats://"), "--subject", SUBJECT]
            command += ["--clients", str(args.clients), "--rate", str(args.rate), "--seconds", str(args.seconds)]
            command += ["--pid", f"{pid},{server.pid}" if args.with_broker else str(pid), *args.load]
            if args.pin:
                pin_all(folder, pid, server.pid)
            done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def table(args: argparse.Namespace, runs: list[dict]) -> str:
    """Return the report as Markdown."""
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "?"
    )
    what = " ".join(args.load) or "JSON, everything to all"
    lines = [
        f"# Fan-out: {args.clients} clients × {args.rate:g} ticks/s ({what})",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, "
        f"granian {version('granian')}, tickcast {version('tickcast')}; broker, processor, rule worker, gateway and "
        f"load client share the cores, {PINNED if args.pin else 'nothing is pinned'}. Source: JetStream, JSON. "
        "Rules: two trivial vectorised checks in a worker.",
        "",
        f"`python benchmarks/fanout.py --clients {args.clients} --rate {args.rate:g} --seconds {args.seconds:g} "
        f"{'--pin ' if args.pin else ''}{' '.join(args.load)}`",
        "",
        "| run | deliveries/s | missing | doubled or reordered | p50 ms | p99 ms | p99.9 ms | max ms | server CPU-s "
        "per million | frames/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for i, r in enumerate(runs, 1):
        lat, sampled = r["latency_ms"], r["sampled"]
        lines.append(
            f"| {i} | {r['deliveries_per_s']:,.0f} | {sampled['missing']} | {sampled['doubled_or_reordered']} "
            f"| {lat['p50']:.1f} | {lat['p99']:.1f} | {lat['p999']:.1f} | {lat['max']:.1f} "
            f"| {r['server_cpu_s_per_million']:.2f} | {r['frames_per_s']:,.0f} |"
        )
    middle = statistics.median(r["latency_ms"]["p99"] for r in runs)
    lines += [
        "",
        f"Median p99: **{middle:.1f} ms**. Clients connected: {runs[0]['connected']}, "
        f"least and most trades of a client: {runs[-1]['per_client']['least']:,} and "
        f"{runs[-1]['per_client']['most']:,}; published {runs[-1]['published']:,}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--rate", type=float, default=1000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--with-broker", action="store_true", help="count the broker's CPU time too")
    options.add_argument("--pin", action="store_true", help=PINNED)
    options.add_argument("--write", action="store_true")
    args, args.load = options.parse_known_args()
    binary = load_client()
    report = table(args, [one_run(binary, args) for _ in range(args.runs)])
    print(report)
    if args.write:
        path = HERE / "results" / f"fanout_{args.clients}x{args.rate:g}{'_pinned' if args.pin else ''}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(report)


if __name__ == "__main__":
    main()
