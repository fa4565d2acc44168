"""What it saves to write frames to clients' sockets from the pump, instead of handing them to the server.

    python benchmarks/direct.py [--runs 3] [--seconds 6] [--write]

`web.direct` on and off in turn, on the loads below; source core NATS, two trivial rules in a worker; broker, processor,
rule worker, gateway and load client share the cores. With the server in between the gateway keeps to one core
(`web.pin`), which helps it.
"""

import argparse
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from compare import machine
from fanout import HERE, load_client, median, one_run, per_million

Run = dict[str, Any]
BIN = ("--format", "bin", "--per-message", "50")
LOADS = [
    ("500 clients × 1,000/s, JSON", 500, 1_000, ()),
    ("500 × 5,000/s, JSON", 500, 5_000, ()),
    ("500 × 20,000/s, `.bin`", 500, 20_000, BIN),
    ("500 × 50,000/s, `.bin`", 500, 50_000, BIN),
    ("2,000 × 500/s, `.bin`", 2_000, 500, ("--format", "bin")),
]


def measure(binary: Path, args: Namespace, load: tuple[str, int, int, tuple[str, ...]], *, direct: bool) -> Run:
    """Return one run on a fresh tape."""
    _, clients, rate, extra = load
    os.environ["TICKCAST_WEB_DIRECT"] = str(direct).lower()
    return one_run(
        binary,
        Namespace(
            clients=clients,
            rate=rate,
            seconds=args.seconds,
            source="nats",
            with_broker=False,
            unpinned=direct,
            serve=[],
            load=["--poll-us", "500", *extra],
        ),
    )


def us_per_frame(run: Run) -> float:
    """Return the gateway's CPU time per frame, µs."""
    return per_million(run, "gateway") * run["deliveries_per_s"] / run["frames_per_s"]


def rows(name: str, found: dict[bool, list[Run]]) -> list[str]:
    """Return the two lines of a load."""
    lines = []
    for direct, runs in found.items():
        p50, p99 = (median(runs, lambda run, of=of: run["latency_ms"][of]) for of in ("p50", "p99"))
        lines.append(
            f"| {name} | {'pump' if direct else 'server'} | {p50:.1f} | {p99:.1f} "
            f"| {median(runs, lambda run: run['frames_per_s']):,.0f} | {median(runs, us_per_frame):.1f} "
            f"| {sum(run['sampled']['missing'] + run['sampled']['doubled_or_reordered'] for run in runs)} |"
        )
    return lines


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--seconds", type=float, default=6)
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    binary = load_client()
    where = machine()
    lines = [
        "# Frames written by the pump, and by the server",
        "",
        f"{where['date']}, {where['cores']} cores ({where['cpu']}), Python {where['python']}; medians of {args.runs} "
        f"runs of {args.seconds:g} s, both ways in turn. `python benchmarks/direct.py --write`",
        "",
        "| load | frames are written by | p50 ms | p99 ms | frames/s | gateway, µs of CPU a frame | missing, doubled |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for load in LOADS:
        found: dict[bool, list[Run]] = {False: [], True: []}
        for _ in range(args.runs):
            for direct, runs in found.items():
                runs.append(measure(binary, args, load, direct=direct))
        lines += rows(load[0], found)
        print("\n".join(lines[-2:]), flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if args.write:
        (HERE / "results" / "direct.md").write_text(text)


if __name__ == "__main__":
    main()
