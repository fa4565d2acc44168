"""Where the processor time of fan-out goes: samples by process, thread and system call, with `perf` (linux-perf).

    python benchmarks/where.py [--clients 500] [--rate 1000] [--unpinned] [--write]

The first case of `cases.py`, five seconds of it sampled. Needs the right to sample all processes.
"""

import argparse
import re
import subprocess
import tempfile
from argparse import Namespace
from collections import Counter
from pathlib import Path

from cases import measure
from compare import machine
from fanout import HERE, load_client

SECONDS = 8
SAMPLED_S = 5
HERTZ = 1_999
DELAY_S = 8
"""After starting: servers come up, clients connect, three seconds of warm-up."""
SYSCALL = re.compile(r"__x64_sys_(\w+)")
HEAD = re.compile(r"^(?P<comm>\S.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)")


def sample(binary: Path, args: Namespace, path: Path) -> dict:
    """Run the load with perf beside it; returns the load client's report."""
    command = ["perf", "record", "-q", "-F", str(HERTZ), "-e", "cpu-clock", "-a", "-g", "-o", str(path)]
    command += ["--", "sleep", str(SAMPLED_S)]
    with subprocess.Popen(
        ["sh", "-c", f"sleep {DELAY_S}; exec {' '.join(command)}"], stderr=subprocess.DEVNULL
    ) as perf:
        run = measure(binary, args, args.clients, args.rate, tuple(args.load))
        perf.wait()
    return run


def read(path: Path, roles: dict[int, str]) -> Counter[tuple[str, str]]:
    """Return samples by (thread, system call), idle ones left out."""
    command = ["perf", "script", "-i", str(path), "-F", "comm,pid,tid,ip,sym"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    calls: dict[tuple[int, int, str], Counter[str]] = {}
    for block in text.split("\n\n"):
        head = HEAD.match(block.strip())
        if head is None or head["comm"] == "swapper":
            continue
        found = SYSCALL.search(block)
        thread = (int(head["pid"]), int(head["tid"]), head["comm"])
        calls.setdefault(thread, Counter())[found[1] if found else "user"] += 1
    counts: Counter[tuple[str, str]] = Counter()
    for thread, by_call in calls.items():
        for call, count in by_call.items():
            counts[_name(thread, roles, by_call), call] += count
    return counts


def _name(thread: tuple[int, int, str], roles: dict[int, str], calls: Counter[str]) -> str:
    pid, tid, comm = thread
    role = roles.get(pid, comm)
    if role != "gateway":
        return role
    if comm == "tickcast-pump":
        return "gateway: pump"
    if pid == tid:
        return "gateway: asyncio"
    return "gateway: Granian's network" if calls["sendto"] else "gateway: Granian's completions"


def report(run: dict, counts: Counter[tuple[str, str]], args: Namespace) -> str:
    """Return the shares as Markdown."""
    where = machine()
    per_frame = 1e6 / HERTZ / SAMPLED_S / run["frames_per_s"]
    pinned = "nothing is pinned" if args.unpinned else "the gateway keeps to one core (`web.pin`)"
    lines = [
        f"# Where the time goes: {args.clients} clients × {args.rate:g} ticks/s",
        "",
        f"{where['date']}, {where['cores']} cores ({where['cpu']}); {pinned}. `python benchmarks/where.py"
        f"{' --unpinned' if args.unpinned else ''}`: {SAMPLED_S} s sampled at {HERTZ} Hz by perf, which itself costs "
        f"some. {run['frames_per_s']:,.0f} frames/s, p99 {run['latency_ms']['p99']:.1f} ms.",
        "",
        "| thread | cores | µs per frame | of which, by system call |",
        "|---|---:|---:|---|",
    ]
    threads: Counter[str] = Counter()
    for (thread, _), count in counts.items():
        threads[thread] += count
    for thread, count in threads.most_common():
        if count < HERTZ * SAMPLED_S * 0.01:
            continue
        calls = Counter({call: n for (name, call), n in counts.items() if name == thread})
        share = ", ".join(f"{call} {n / count:.0%}" for call, n in calls.most_common(4))
        lines.append(f"| {thread} | {count / HERTZ / SAMPLED_S:.2f} | {count * per_frame:.1f} | {share} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Sample and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--rate", type=float, default=1_000)
    options.add_argument("--unpinned", action="store_true")
    options.add_argument("--write", action="store_true")
    args, args.load = options.parse_known_args()
    args.seconds = SECONDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "perf.data"
        run = sample(load_client(), args, path)
        counts = read(path, run["roles"])
    text = report(run, counts, args)
    print(text)
    if args.write:
        name = f"where_{args.clients}x{args.rate:g}{'_unpinned' if args.unpinned else ''}.md"
        (HERE / "results" / name).write_text(text)


if __name__ == "__main__":
    main()
