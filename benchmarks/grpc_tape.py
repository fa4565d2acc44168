"""Subscribers of `tickcast.v1.Tape` on one processor, everything on this machine.

    python benchmarks/grpc_tape.py [--clients 200] [--rate 5000] [--seconds 10] [--runs 3] [--write]

Starts `tickcast process` with the simulator, and a client process with as many streams, each of all trades. Latency is
per trade, from the tick's own time (the simulator's clock) to the moment when its frame was received, on one clock: it
holds judging, the wait for the next frame, gRPC, and the client. One more stream that is never read stands beside them
in every second run. `--write` puts the table into benchmarks/results/.
"""

import argparse
import asyncio
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
SUBSCRIBE = "/tickcast.v1.Tape/Subscribe"
WARM_UP_S = 3.0
STREAMS_PER_CHANNEL = 25
BUCKETS_MS = 2_000
SAMPLE = 8
"""Latency is taken at one of so many subscribers: it is not the client that is to be measured."""


async def follow(address: str, clients: int, seconds: float, *, stuck: bool) -> dict:
    """Follow with many streams; return latencies and counts."""
    import grpc
    import numpy as np

    from tickcast.rpc import tape_pb2 as pb

    histogram = np.zeros(BUCKETS_MS + 1, np.int64)
    frames = trades = broken = 0
    measuring = False
    request = pb.SubscribeRequest(snapshot=False).SerializeToString()

    async def one(channel: grpc.aio.Channel, sampled: bool) -> None:
        nonlocal frames, trades, broken
        covered = 0
        async for message in channel.unary_stream(SUBSCRIBE)(request):
            now = time.time_ns()
            if message[0] != 26:  # the field `trades`
                continue
            at = 2
            while message[at - 1] & 0x80:
                at += 1
            frame = memoryview(message)[at:]
            first, last = int.from_bytes(frame[8:16], "little"), int.from_bytes(frame[16:24], "little")
            broken += covered != 0 and first != covered + 1
            covered = last
            if not measuring:
                continue
            count, width = int.from_bytes(frame[4:8], "little"), int.from_bytes(frame[48:50], "little")
            frames += 1
            trades += count
            if not sampled:
                continue
            records = np.frombuffer(frame[len(frame) - count * width :], np.uint8).reshape(count, width)
            times = np.ascontiguousarray(records[:, 8:16]).view(np.int64).ravel()
            ms = np.clip((now - times) // 1_000_000, 0, BUCKETS_MS)
            histogram[:] += np.bincount(ms, minlength=BUCKETS_MS + 1)

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(-(-clients // STREAMS_PER_CHANNEL))]
    tasks = [asyncio.create_task(one(channels[n // STREAMS_PER_CHANNEL], n % SAMPLE == 0)) for n in range(clients)]
    silent = grpc.aio.insecure_channel(address, options)
    if stuck:
        never_read = silent.unary_stream(SUBSCRIBE)(request)
        await never_read.initial_metadata()
    await asyncio.sleep(WARM_UP_S)
    measuring, started = True, time.monotonic()
    await asyncio.sleep(seconds)
    measuring, took = False, time.monotonic() - started
    alive = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in (*channels, silent):
        await channel.close()
    below = np.cumsum(histogram) / max(1, histogram.sum())
    return {
        "alive": alive,
        "broken": int(broken),
        "frames_per_s": frames / took,
        "trades_per_s": trades / took,
        "frames_per_client_per_s": frames / took / clients,
        "p50": int(np.searchsorted(below, 0.5)) + 1,
        "p99": int(np.searchsorted(below, 0.99)) + 1,
        "p999": int(np.searchsorted(below, 0.999)) + 1,
    }


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return the anonymous memory of a process: the tape's mapping is not its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def one_run(args: argparse.Namespace, *, stuck: bool) -> dict:
    """Fresh tape, one measurement."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "tickcast", "process", "--grpc-port", "0", "--run-dir", f"{name}/run"]
        command += ["--source", f"sim://?rate={args.rate:g}&instruments=200&faults=0"]
        with Path(name, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            line = next((line for line in process.stdout if line.startswith(b"ready")), b"")
            address = line.split(b"grpc=")[1].split()[0].decode()
            wish = [sys.executable, __file__, "--follow", address, "--clients", str(args.clients)]
            wish += ["--seconds", str(args.seconds), *(["--stuck"] if stuck else [])]
            before, started = cpu_s(process.pid), time.monotonic()
            client = subprocess.Popen(wish, stdout=subprocess.PIPE, text=True)
            time.sleep(WARM_UP_S + args.seconds / 2)
            memory = resident_mib(process.pid)
            said, _ = client.communicate(timeout=120)
            used = (cpu_s(process.pid) - before) / (time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(20)
    return json.loads(said) | {"stuck": stuck, "cores": used, "memory": memory}


def table(args: argparse.Namespace, runs: list[dict]) -> str:
    """Return the report as Markdown."""
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "?"
    )
    lines = [
        f"# `tickcast.v1.Tape`: {args.clients} subscribers × {args.rate:g} trades/s from one processor",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, "
        f"grpcio {version('grpcio')}, tickcast {version('tickcast')}; the processor (simulator, screen, tape, gRPC) "
        "and the one client process with all subscribers share the cores, nothing is pinned. Each subscriber gets "
        f"every trade; latency is taken at every {SAMPLE}th.",
        "",
        f"`python benchmarks/grpc_tape.py --clients {args.clients} --rate {args.rate:g} --seconds {args.seconds:g} "
        f"--runs {args.runs}`",
        "",
        "| run | beside them one that never reads | deliveries/s | frames/s of a subscriber | p50 ms | p99 ms "
        "| p99.9 ms | ranges not joined | streams lost | processor's cores | its memory MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for i, r in enumerate(runs, 1):
        lines.append(
            f"| {i} | {'yes' if r['stuck'] else 'no'} | {r['trades_per_s']:,.0f} | {r['frames_per_client_per_s']:.1f} "
            f"| {r['p50']} | {r['p99']} | {r['p999']} | {r['broken']} | {args.clients - r['alive']} | {r['cores']:.2f} "
            f"| {r['memory']:.0f} |"
        )
    middle = statistics.median(r["p99"] for r in runs)
    lines += ["", f"Median p99: **{middle:g} ms**. Latencies are rounded up to full milliseconds."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=200)
    options.add_argument("--rate", type=float, default=5000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--write", action="store_true")
    options.add_argument("--follow", help=argparse.SUPPRESS)
    options.add_argument("--stuck", action="store_true", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.follow:
        import uvloop

        print(json.dumps(uvloop.run(follow(args.follow, args.clients, args.seconds, stuck=args.stuck))))
        return
    report = table(args, [one_run(args, stuck=bool(n % 2)) for n in range(args.runs)])
    print(report)
    if args.write:
        path = HERE / "results" / "grpc_tape.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(report)


if __name__ == "__main__":
    main()
