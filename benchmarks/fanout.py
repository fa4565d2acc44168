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
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from fixtures.nats import NatsServer  # noqa: E402 (the path has to be set first)
from fixtures.serving import children  # noqa: E402

SUBJECT = "ticks"
PINNED = "the gateway keeps to one core (`web.pin=true`), nothing else is pinned"
SOURCES = {"jetstream": "JetStream", "nats": "core NATS"}
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


def quiet_port() -> int:
    """Return a free loopback port that the kernel gives to no client: thousands of them come and go here."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


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
def served(
    nats_url: str,
    folder: Path,
    *,
    rules: str = "bench_rules:rules",
    extra: tuple[str, ...] = (),
    source: str | None = None,
    pin: bool = True,
):
    """Run `tickcast serve`, by default on the stream that `make_stream` made, and yield (pid, host:port)."""
    (folder / "bench_rules.py").write_text(RULES)
    command = [sys.executable, "-m", "tickcast", "serve"]
    command += ["--source", source or f"jetstream://{nats_url.removeprefix('nats://')}/{SUBJECT}?stream=TICKS"]
    command += ["--rules", rules, "--run-dir", str(folder / "run"), "--grpc-port", "0", *extra]
    command += ["--port", str(quiet_port())]
    env = os.environ | {"TICKCAST_WEB_PIN": str(pin).lower()}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder, env=env)
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


def roles(folder: Path, served_pid: int) -> dict[int, str]:
    """Return which process of `tickcast serve` does what."""
    info = folder / "run"
    gateway = json.loads((info / "gateway.json").read_text())["pid"]
    processor = json.loads((info / "processor.json").read_text())["pid"]
    known = dict.fromkeys(with_descendants(served_pid), "supervisor")
    known |= dict.fromkeys(with_descendants(processor), "rule workers") | {processor: "processor"}
    return known | dict.fromkeys(with_descendants(gateway), "gateway")


def one_run(binary: Path, args: argparse.Namespace) -> dict:
    """Fresh broker, fresh tape, one measurement."""
    with tempfile.TemporaryDirectory() as name, NatsServer() as server:
        folder = Path(name)
        if args.source == "jetstream":
            asyncio.run(make_stream(server.url))
        source = None if args.source == "jetstream" else f"{server.url}/{SUBJECT}"
        with served(server.url, folder, source=source, pin=not args.unpinned, extra=tuple(args.serve)) as (
            pid,
            address,
        ):
            command = [str(binary), address, "--nats", server.url.removeprefix("nats://"), "--subject", SUBJECT]
            command += ["--clients", str(args.clients), "--rate", str(args.rate), "--seconds", str(args.seconds)]
            command += ["--pid", f"{pid},{server.pid}" if args.with_broker else str(pid), *args.load]
            gateway = json.loads((folder / "run" / "gateway.json").read_text())["pid"]
            command += ["--memory-of", str(gateway)]
            who = roles(folder, pid) | {server.pid: "broker"}
            done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    result["roles"] = who
    result["cpu_s_by_role"] = dict.fromkeys(who.values(), 0.0)
    for each, seconds in result["server_cpu_s_by_pid"].items():
        result["cpu_s_by_role"][who.get(int(each), "rule workers")] += seconds
    return result


def per_million(run: dict, role: str) -> float:
    """Return a role's CPU-s per million deliveries."""
    return run["cpu_s_by_role"][role] / run["deliveries_per_s"] / run["seconds"] * 1e6


def median(runs: list[dict], of: Callable[[dict], float]) -> float:
    """Return the median of a figure of the runs."""
    return statistics.median(of(run) for run in runs)


def costs(runs: list[dict]) -> dict[str, float]:
    """Return the median CPU-s per million deliveries of each role, the load client's last."""
    found = {who: statistics.median(per_million(run, who) for run in runs) for who in runs[0]["cpu_s_by_role"]}
    load = statistics.median(run["load_cpu_s"] / run["deliveries_per_s"] / run["seconds"] * 1e6 for run in runs)
    return found | {"load client": load}


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
        f"load client share the cores, {'nothing is pinned' if args.unpinned else PINNED}. "
        f"Source: {SOURCES[args.source]}, JSON. Rules: two trivial vectorised checks in a worker.",
        "",
        f"`python benchmarks/fanout.py --clients {args.clients} --rate {args.rate:g} --seconds {args.seconds:g} "
        f"{'--unpinned ' if args.unpinned else ''}{'--source nats ' if args.source == 'nats' else ''}"
        f"{' '.join(args.load)}`",
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
        "",
        f"CPU-s per million deliveries, median: {', '.join(f'{who} {cost:.2f}' for who, cost in costs(runs).items())}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--rate", type=float, default=1000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--source", choices=SOURCES, default="jetstream")
    options.add_argument("--with-broker", action="store_true", help="count the broker's CPU time too")
    options.add_argument("--raw", action="store_true", help="print what the load client says of each run")
    options.add_argument("--unpinned", action="store_true", help="without `web.pin`")
    options.add_argument("--write", action="store_true")
    args, args.load = options.parse_known_args()
    args.serve = []
    binary = load_client()
    runs = [one_run(binary, args) for _ in range(args.runs)]
    if args.raw:
        print(json.dumps(runs, indent=1), file=sys.stderr)
    report = table(args, runs)
    print(report)
    if args.write:
        path = HERE / "results" / f"fanout_{args.clients}x{args.rate:g}{'_unpinned' if args.unpinned else ''}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(report)


if __name__ == "__main__":
    main()
