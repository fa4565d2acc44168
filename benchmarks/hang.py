"""A rule that never returns on one of 100 instruments, in a stream of 1,000 ticks/s: what the others notice.

    python benchmarks/hang.py [--clients 50] [--runs 3] [--write]

Each run measures the latency of the other instruments twice, on fresh processes: without the instrument, and with it,
from some seconds after the hang on, while the rule still hangs on every tick of it that it is shown. See fanout.py for
how latency is taken.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from fanout import HERE, SUBJECT, NatsServer, load_client, make_stream, served

WARMUP_S = 8
"""The stall lies within it: ticks of the instrument begin after 2 s."""


def measure(binary: Path, clients: int, seconds: float, *, hanging: bool) -> dict:
    """Fresh broker, fresh processes, one measurement."""
    with tempfile.TemporaryDirectory() as name, NatsServer() as server:
        asyncio.run(make_stream(server.url))
        with served(server.url, Path(name)) as (pid, address):
            command = [str(binary), address, "--nats", server.url.removeprefix("nats://"), "--subject", SUBJECT]
            command += ["--clients", str(clients), "--rate", "1000", "--instruments", "99", "--pid", str(pid)]
            command += ["--seconds", str(seconds), "--warmup", str(WARMUP_S)]
            command += ["--slow-every", "100", "--slow-after", "2"] if hanging else []
            return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    binary = load_client()
    lines = [
        "# A rule hangs on one of 100 instruments",
        "",
        f"{time.strftime('%Y-%m-%d')}, {args.clients} clients x 1,000 ticks/s from JetStream, rules in one worker, "
        f"deadline 250 ms, fail-closed; {args.seconds:g} s measured, "
        f"from {WARMUP_S - 2} s after the first tick that hangs.",
        "",
        "| run | p50 / p99 without, ms | p50 / p99 of the others while it hangs, ms | ratio of p99 | missing |",
        "|---|---:|---:|---:|---:|",
    ]
    ratios = []
    for run in range(1, args.runs + 1):
        before = measure(binary, args.clients, args.seconds, hanging=False)
        after = measure(binary, args.clients, args.seconds, hanging=True)
        ratios.append(after["latency_ms"]["p99"] / before["latency_ms"]["p99"])
        a, b = before["latency_ms"], after["latency_ms"]
        lines.append(
            f"| {run} | {a['p50']:.1f} / {a['p99']:.1f} | {b['p50']:.1f} / {b['p99']:.1f} | {ratios[-1]:.2f} "
            f"| {before['sampled']['missing'] + after['sampled']['missing']} |"
        )
    lines += ["", f"Median ratio: **{statistics.median(ratios):.2f}**."]
    report = "\n".join(lines) + "\n"
    print(report)
    if args.write:
        (HERE / "results" / "hang.md").write_text(report)


if __name__ == "__main__":
    main()
