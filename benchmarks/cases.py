"""The loads that fan-out has to bear, each against its aim.

    python benchmarks/cases.py [--only 500x1000,stalled] [--runs 5] [--hold MINUTES] [--keep] [--write]

Source: core NATS, JSON. Two trivial rules in a worker. Broker, processor, rule worker, gateway and load client share
the cores; the gateway keeps to one of them (`web.pin`). Latency is per trade from publishing to receipt in JSON, of the
oldest trade of each frame in `.bin`. Each case: the median of so many runs, by p99. `--keep` keeps what was measured of
the other cases before; `--write` writes results/cases.md and cases.json.
"""

import argparse
import asyncio
import json
import subprocess
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from compare import allow_files, machine
from fanout import HERE, SUBJECT, NatsServer, costs, load_client, one_run, served

RESULTS = HERE / "results"
Run = dict[str, Any]
AWAY_S = 30
AWAY_RATE = 1_000
STALLED = 50
STALLED_RUNS = 3
MOST_STALLED_KIB = 512
MOST_MOVED = 0.2


@dataclass(frozen=True)
class Case:
    """One load."""

    key: str
    name: str
    clients: int
    rate: float
    load: tuple[str, ...]
    aim_ms: float
    of: str = "latency_ms"
    """Which distribution the aim is about."""
    aim_cpu: float | None = None
    """CPU-s per million deliveries of gateway, processor and workers together."""


BATCHED = ("--per-message", "50")
CASES = [
    Case("500x1000", "500 clients × 1,000/s, JSON", 500, 1_000, (), 12, aim_cpu=1.75),
    Case("500x5000", "500 × 5,000/s, JSON", 500, 5_000, (), 20),
    Case("500x20000", "500 × 20,000/s, `.bin`; 50 ticks a message", 500, 20_000, ("--format", "bin", *BATCHED), 20),
    Case("500x50000", "500 × 50,000/s, `.bin`; 50 ticks a message", 500, 50_000, ("--format", "bin", *BATCHED), 30),
    Case(
        "5000own",
        "5,000 clients, each 4 of 1,000 instruments, 3,000 ticks/s (12 trades a second each), JSON",
        5_000,
        3_000,
        ("--own", "4", "--instruments", "1000"),
        25,
    ),
    Case(
        "5000latest",
        "5,000 clients, `latest` at 10 Hz, each 20 of 1,000 instruments, 50,000 ticks/s, 50 a message, `.bin`: age",
        5_000,
        50_000,
        (
            "--format",
            "bin",
            "--mode",
            "latest",
            "--max-rate-hz",
            "10",
            "--own",
            "20",
            "--instruments",
            "1000",
            *BATCHED,
        ),
        150,
        of="age_ms",
    ),
    Case("2000x500", "2,000 × 500/s, everything to all, `.bin`", 2_000, 500, ("--format", "bin"), 50),
]


def measure(binary: Path, args: Namespace, clients: int, rate: float, load: tuple[str, ...]) -> Run:
    """One run on a fresh tape."""
    return one_run(
        binary,
        Namespace(
            clients=clients,
            rate=rate,
            seconds=args.seconds,
            source="nats",
            with_broker=False,
            unpinned=args.unpinned,
            serve=[],
            load=["--poll-us", "500", *load],
        ),
    )


def middle(runs: list[Run], of: str) -> Run:
    """Return the run with the median p99."""
    return sorted(runs, key=lambda run: run[of]["p99"])[len(runs) // 2]


def load_case(case: Case, binary: Path, args: Namespace) -> Run:
    """Measure one load."""
    runs = [measure(binary, args, case.clients, case.rate, case.load) for _ in range(args.runs)]
    chosen = middle(runs, case.of)
    cost = costs(runs)
    return {
        "p50": chosen[case.of]["p50"],
        "p99": chosen[case.of]["p99"],
        "p999": chosen[case.of]["p999"],
        "p99s": sorted(run[case.of]["p99"] for run in runs),
        "connected": chosen["connected"],
        "missing": sum(run["sampled"]["missing"] for run in runs),
        "doubled": sum(run["sampled"]["doubled_or_reordered"] for run in runs),
        "deliveries_per_s": chosen["deliveries_per_s"],
        "frames_per_s": chosen["frames_per_s"],
        "published_per_s": chosen["published"] / (chosen["seconds"] + 3),
        "cpu": cost,
        "cpu_servers": sum(seconds for who, seconds in cost.items() if who not in ("broker", "load client")),
    }


def stalled(binary: Path, args: Namespace) -> Run:
    """The first case again, a tenth of the clients reading nothing; with a window of acks, and without."""
    found = {}
    for name, load in (("without acks", ()), ("acks of 256 KiB", ("--acks", "262144"))):
        few = ("--stalled", str(STALLED))
        before, after = [], []
        for _ in range(min(args.runs, STALLED_RUNS)):  # in turn, so that whatever else the machine does strikes both
            before.append(measure(binary, args, 500, 1_000, load))
            after.append(measure(binary, args, 500, 1_000, (*load, *few)))
        quiet, loud = middle(before, "latency_ms"), middle(after, "latency_ms")
        memory = sorted(_gateway_kib(run) for run in after)[len(after) // 2]
        memory -= sorted(_gateway_kib(run) for run in before)[len(before) // 2]
        found[name] = {
            "p99_before": quiet["latency_ms"]["p99"],
            "p99": loud["latency_ms"]["p99"],
            "kib_per_stalled": memory / STALLED,
            "told": [run["stalled"] for run in after],
            "missing": sum(run["sampled"]["missing"] for run in after),
        }
    return found


def _gateway_kib(run: Run) -> float:
    return run["server_own_bytes"]["loaded"] / 1024


def away(binary: Path, _: Namespace) -> Run:
    """A client leaves for 30 s at 1,000 trades/s and comes back to another worker."""
    with tempfile.TemporaryDirectory() as name, NatsServer() as nats:
        folder = Path(name)
        source = f"{nats.url}/{SUBJECT}"
        with served(nats.url, folder, source=source, extra=("--workers", "2")) as (_pid, address):
            command = [str(binary), address, "--nats", f"127.0.0.1:{nats.port}", "--clients", "10"]
            command += ["--rate", str(AWAY_RATE), "--seconds", str(AWAY_S + 10)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as publishing:
                found = asyncio.run(_leave_and_return(folder / "run", address))
                publishing.communicate()
    return found


async def _leave_and_return(run_dir: Path, address: str) -> Run:
    from fixtures.gateway import Gateway
    from fixtures.wsclient import Ledger, WsClient

    pid = json.loads((run_dir / "gateway.json").read_text())["pid"]
    gateway = Gateway(SimpleNamespace(pid=pid), run_dir, int(address.split(":")[1]))
    client, ledger = await WsClient.connect(gateway.ws), Ledger()
    epoch = (await client.until("hello"))["epoch"]
    await client.send({"type": "subscribe", "snapshot": False})
    while len(ledger.sequences) < AWAY_RATE:
        ledger.add(await client.receive())
    before = gateway.worker_of(client.port)
    await client.close()
    following = ledger.sequences[-1] + 1
    await asyncio.sleep(AWAY_S)
    client = await WsClient.connect(gateway.ws)
    while (worker := gateway.worker_of(client.port)) == before:
        await client.close()
        client = await WsClient.connect(gateway.ws)
    await client.send({"type": "subscribe", "epoch": epoch, "fromSeq": following, "snapshot": False})
    missed, wanted = 0, following + AWAY_RATE * (AWAY_S + 3)
    loop = asyncio.get_running_loop()
    back = loop.time()
    caught_up = None
    while ledger.sequences[-1] < wanted:
        message = await client.receive()
        ledger.add(message)
        if (
            caught_up is None
            and message["type"] == "trades"
            and int(message["sentNs"]) / 1e6 - _newest_ms(message) < 100
        ):
            caught_up, missed = loop.time() - back, ledger.sequences[-1] - following + 1
    await client.close()
    ledger.check()
    return {"missed": missed, "caught_up_s": caught_up, "another_worker": worker != before, "every_trade_once": True}


def _newest_ms(message: Run) -> float:
    return int(message["trades"][-1]["timestampNs"]) / 1e6 if message["trades"] else 0.0


def hold(minutes: float, binary: Path, args: Namespace) -> Run:
    """Half of the highest rate for long: memory and p99 of each twentieth of it."""
    seconds = minutes * 60
    every = seconds / 20
    load = ("--format", "bin", *BATCHED, "--every", str(every))
    args.seconds = seconds
    run = measure(binary, args, 500, 25_000, load)
    return {
        "minutes": minutes,
        "p99s": [interval["p99"] for interval in run["intervals"]["latency_ms"]],
        "mib": [size / 2**20 for size in run["intervals"]["server_own_bytes"]],
        "missing": run["sampled"]["missing"],
        "deliveries_per_s": run["deliveries_per_s"],
    }


def report(result: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    machine_, found = result["machine"], result["found"]
    pinned = "nothing is pinned" if result["unpinned"] else "the gateway keeps to one core (`web.pin`)"
    lines = [
        "# Fan-out: its cases",
        "",
        f"{machine_['date']}, {machine_['cores']} cores ({machine_['cpu']}), Python {machine_['python']}; broker, "
        f"processor, rule worker, gateway and load client share them; {pinned}. Source: core NATS, JSON; two "
        f"trivial rules in a worker. The median of {result['runs']} runs of {result['seconds']:g} s, by p99. "
        "`python benchmarks/cases.py`",
        "",
        "| case | p50 ms | p99 ms (least–most) | p99.9 ms | aim p99 ms | missing, doubled | deliveries/s | frames/s "
        "| CPU-s per million: servers (gateway) | reached |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [_row(case, found[case.key]) for case in CASES if case.key in found]
    if "stalled" in found:
        lines += ["", "## 10 % of 500 clients stalled, 1,000/s, JSON", "", *_stalled_rows(found["stalled"])]
    if "away" in found:
        it = found["away"]
        lines += ["", f"## Away for {AWAY_S} s at {AWAY_RATE:,} trades/s, back on another worker", ""]
        lines += [
            f"{it['missed']:,} trades were missed and came within {it['caught_up_s']:.1f} s, each once, none doubled."
        ]
    if "hold" in found:
        lines += ["", *_hold_lines(found["hold"])]
    return "\n".join([*lines, ""])


def _row(case: Case, it: Run) -> str:
    cpu = f"{it['cpu_servers']:.2f} ({it['cpu']['gateway']:.2f})"
    reached = it["p99"] <= case.aim_ms and not it["missing"] and not it["doubled"] and it["connected"] == case.clients
    if case.aim_cpu is not None:
        cpu += f", aim {case.aim_cpu}"
        reached = reached and it["cpu_servers"] <= case.aim_cpu
    spread = f"{it['p99']:.1f} ({it['p99s'][0]:.1f}–{it['p99s'][-1]:.1f})"
    columns = [case.name, f"{it['p50']:.1f}", spread, f"{it['p999']:.1f}", f"{case.aim_ms:g}"]
    columns += [
        f"{it['missing']}, {it['doubled']}",
        f"{it['deliveries_per_s']:,.0f}",
        f"{it['frames_per_s']:,.0f}",
        cpu,
    ]
    return "| " + " | ".join([*columns, "yes" if reached else "**no**"]) + " |"


def _stalled_rows(found: Run) -> list[str]:
    lines = ["| | p99 ms, all read | p99 ms of those that read | moves by | KiB per stalled client | reached |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for name, it in found.items():
        moved = it["p99"] / it["p99_before"] - 1
        reached = moved < MOST_MOVED and it["kib_per_stalled"] <= MOST_STALLED_KIB
        numbers = f"{it['p99_before']:.1f} | {it['p99']:.1f} | {moved * 100:+.0f} % | {it['kib_per_stalled']:.0f}"
        lines.append(f"| {name} | {numbers} | {'yes' if reached else '**no**'} |")
    lines += ["", f"Medians of {STALLED_RUNS} runs at most, all reading and some not in turn."]
    lines += ["", "When they read on, after the measurement:", ""]
    for name, it in found.items():
        total = {key: sum(run[key] for run in it["told"]) for key in it["told"][0]}
        lines.append(
            f"- {name}: of {total['clients']} (all runs) {total['caught_up']} caught up, {total['closed']} had been "
            f"closed; {total['trades']:,} trades came, {total['in_gaps']:,} were announced as gaps, and "
            f"{total['untold']:,} were neither."
        )
    return lines


def _hold_lines(it: Run) -> list[str]:
    quarter = len(it["p99s"]) // 4
    first, last = (sum(part) / len(part) for part in (it["p99s"][:quarter], it["p99s"][-quarter:]))
    memory = f"{it['mib'][0]:.0f} MiB after the first twentieth, {it['mib'][-1]:.0f} MiB at the end"
    return [
        f"## Held for {it['minutes']:g} minutes: 500 × 25,000/s, `.bin`",
        "",
        f"{it['deliveries_per_s']:,.0f} deliveries/s, {it['missing']} missing. p99 {first:.1f} ms in the first "
        f"quarter, {last:.1f} ms in the last. Memory of the gateway's own: {memory}. "
        "(The processor's grows with its windows.)",
        "",
        "p99 of each twentieth, ms: " + ", ".join(f"{p99:.1f}" for p99 in it["p99s"]),
        "",
        "MiB: " + ", ".join(f"{size:.0f}" for size in it["mib"]),
    ]


def main() -> None:
    """Measure and print."""
    others = {"stalled": stalled, "away": away}
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default=",".join([*(case.key for case in CASES), *others]))
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--seconds", type=float, default=8)
    options.add_argument("--hold", type=float, default=0, help="minutes at half of the highest rate")
    options.add_argument("--unpinned", action="store_true")
    options.add_argument("--keep", action="store_true")
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    allow_files()
    binary = load_client()
    path = RESULTS / "cases.json"
    found = json.loads(path.read_text())["found"] if args.keep and path.exists() else {}
    wanted = [key for key in args.only.split(",") if key]
    for case in CASES:
        if case.key in wanted:
            found[case.key] = load_case(case, binary, args)
            print(_row(case, found[case.key]), flush=True)
    for key, measure_it in others.items():
        if key in wanted:
            found[key] = measure_it(binary, args)
    if args.hold:
        found["hold"] = hold(args.hold, binary, args)
    result = {
        "machine": machine(),
        "runs": args.runs,
        "seconds": args.seconds,
        "unpinned": args.unpinned,
        "found": found,
    }
    print(report(result))
    if args.write:
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "cases.md").write_text(report(result))


if __name__ == "__main__":
    main()
