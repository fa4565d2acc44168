"""tickcast beside what one would pick or write instead: same machine, same load client, one run.

    python benchmarks/compare.py [--full] [--only tickcast-json,nats] [--keep] [--write]

For each server: how many ticks a second 500 clients can be sent with p99 < 50 ms and none missing; 100 to 5,000 clients
at 100 ticks/s; and, at a rate that it holds, 10 % of the clients stalled or throttled to a tenth of their stream. A
series ends where a server no longer holds it. Bounded to about 12 minutes; `--full` takes all clients with all rates,
ten seconds each and the median of three, in about two hours. `--only` measures some, `--keep` keeps what was measured
of the others before. `--write` writes results/compare.md, compare.json and the plots.

Every server shares the cores with nats-server and load client, each as it comes by default.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from compared import report, write
from contenders import CONTENDERS, Contender, Running, missing
from fanout import HERE, SUBJECT, load_client

RESULTS = HERE / "results"
RATES = (100, 250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000)
SLOW_RATES = (50, 20)
"""For those that don't hold the first rate."""
CLIENTS = (100, 2_000, 5_000)
CROWD_RATE = 100
MIDDLE = 500
HELD_P99_MS = 50
SHARE_SLOW = 10
FILES = 20_000
TRADE_BYTES = 190
ECHO_TICKS = 300
GIVEN_UP_S = 120


def allow_files() -> None:
    """Let this process and its children open a socket for each of 5,000 clients, on both sides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(binary: Path, running: Running, clients: int, rate: float, seconds: float, *more: str) -> dict[str, Any]:
    """Let the load client run once; returns its report, with `held` added."""
    command = [str(binary), running.address, "--nats", f"127.0.0.1:{running.nats.port}", "--subject", SUBJECT]
    command += ["--clients", str(clients), "--rate", str(rate), "--seconds", str(seconds), "--warmup", "1.5"]
    command += ["--poll-us", "500", "--pid", ",".join(map(str, running.pids)), *running.load, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIVEN_UP_S, check=False)
    if done.returncode:
        return {"clients": clients, "rate": rate, "held": False, "error": done.stderr.strip()[-300:]}
    report = json.loads(done.stdout)
    sampled, latency = report["sampled"], report["latency_ms"]
    memory = report["server_own_bytes"]
    return {
        "clients": clients,
        "rate": rate,
        "held": bool(latency)
        and latency["p99"] < HELD_P99_MS
        and report["connected"] == clients
        and not sampled["missing"]
        and not sampled["doubled_or_reordered"],
        "deliveries_per_s": report["deliveries_per_s"],
        "missing": sampled["missing"],
        "latency_ms": latency,
        "cpu_s_per_million": report["server_cpu_s_per_million"],
        "cpu_cores": report["server_cpu_s"] / seconds,
        "bytes_per_million": report["bytes_per_s"] / max(report["deliveries_per_s"], 1) * 1e6,
        "kib_per_client": (memory["loaded"] - memory["before_clients"]) / clients / 1024,
        "load_cores": report["load_cpu_s"] / seconds,
    }


def several(binary: Path, running: Running, clients: int, rate: float, args: argparse.Namespace, *more: str) -> dict:
    """Measure once, and where that is not held once more, of which the better counts; or the median of three by p99."""
    runs = [measure(binary, running, clients, rate, args.seconds, *more) for _ in range(args.runs)]
    if args.runs == 1 and not runs[0]["held"]:
        # On shared cores something else may have struck.
        runs.append(measure(binary, running, clients, rate, args.seconds, *more))
    runs.sort(key=lambda run: (not run["held"], (run.get("latency_ms") or {}).get("p99", float("inf"))))
    return runs[0] if args.runs == 1 else runs[len(runs) // 2]


def series(binary: Path, contender: Contender, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one server."""
    result: dict[str, Any] = {"version": contender.version(), "rates": [], "crowds": [], "slow": {}}
    with contender.start() as running:
        if not contender.broadcasts:
            return result | {"echo_per_s": asyncio.run(echo(running))}
        for rate in RATES:
            result["rates"].append(several(binary, running, MIDDLE, rate, args))
            show(contender, result["rates"][-1])
            if not result["rates"][-1]["held"]:
                break
    if len(result["rates"]) == 1:
        for rate in SLOW_RATES:
            with contender.start() as running:
                result["rates"].insert(0, several(binary, running, MIDDLE, rate, args))
            show(contender, result["rates"][0])
            if result["rates"][0]["held"]:
                break
    best = max((run["rate"] for run in result["rates"] if run["held"]), default=0)
    for clients in CLIENTS:
        rates = [rate for rate in RATES if args.full or rate == CROWD_RATE]
        for rate in rates if best >= CROWD_RATE or clients < MIDDLE else []:
            with contender.start() as running:
                result["crowds"].append(several(binary, running, clients, rate, args))
            show(contender, result["crowds"][-1])
            if not result["crowds"][-1]["held"]:
                break
        if result["crowds"] and not args.full and not result["crowds"][-1]["held"]:
            break
    if best:
        result["slow"] = slow(binary, contender, min(best / 2, 1_000), args)
    return result


def slow(binary: Path, contender: Contender, rate: float, args: argparse.Namespace) -> dict[str, Any]:
    """The same clients with all reading, a tenth stalled, a tenth throttled."""
    few = MIDDLE // SHARE_SLOW
    tenth = int(rate * TRADE_BYTES / SHARE_SLOW)
    # Latency is read on one client in ten: on those that read.
    cases = {
        "all read": (),
        "10 % stalled": ("--stalled", str(few)),
        "10 % throttled": ("--throttled", str(few), "--throttle-bytes", str(tenth)),
    }
    found = {}
    for name, more in cases.items():
        with contender.start() as running:
            found[name] = several(binary, running, MIDDLE, rate, args, *more)
        show(contender, found[name], name)
    return found


async def echo(running: Running) -> float:
    """Return how many ticks a second come back through one socket that always has some under way."""
    import websockets

    tick = json.dumps({"instrumentId": "SYM0001", "price": 100.5, "volume": 100})
    async with websockets.connect(f"ws://{running.address}/ws/marketdata") as socket:
        for _ in range(ECHO_TICKS):
            await socket.send(tick)
        await socket.recv()
        start = time.perf_counter()
        for _ in range(ECHO_TICKS - 1):
            await socket.recv()
        return (ECHO_TICKS - 1) / (time.perf_counter() - start)


def show(contender: Contender, run: dict[str, Any], case: str = "") -> None:
    """Say how far it is."""
    p99 = (run.get("latency_ms") or {}).get("p99")
    what = f"p99 {p99:.1f} ms" if p99 is not None else run.get("error", "nothing came")
    print(
        f"{contender.key:16} {run['clients']:5} × {run['rate']:<7g} {case:15} {what}, held: {run['held']}", flush=True
    )


def machine() -> dict[str, Any]:
    """Say where this runs."""
    models = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "cpu": models[0] if models else "?",
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true")
    options.add_argument("--only", default=",".join(c.key for c in CONTENDERS))
    options.add_argument("--keep", action="store_true")
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    args.seconds, args.runs = (10.0, 3) if args.full else (3.0, 1)
    allow_files()
    binary = load_client()
    path = RESULTS / "compare.json"
    found = json.loads(path.read_text())["servers"] if args.keep and path.exists() else {}
    result = {"machine": machine(), "seconds": args.seconds, "runs": args.runs, "parts": args.keep, "servers": found}
    for contender in CONTENDERS:
        if contender.key not in args.only.split(","):
            continue
        reason = missing(contender)
        found[contender.key] = {"missing": reason} if reason else series(binary, contender, args)
        if args.write:
            write(result, RESULTS)
    print(report(result))


if __name__ == "__main__":
    main()
