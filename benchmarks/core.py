"""The Rust core's benchmarks as one table: ticks a second on one core.

    python benchmarks/core.py [--write]

Runs `cargo bench` for codec, window, path and tape, and reads what criterion has measured (the median). Time is
that of the thread on its core, so that other work on the machine counts as little as it can.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "target/criterion"


def measured() -> list[tuple[str, str, float]]:
    """Return group, name, and millions a second of each benchmark that has a throughput."""
    rows = []
    for path in sorted(MEASURED.glob("**/new/benchmark.json")):
        about = json.loads(path.read_text())
        elements = (about["throughput"] or {}).get("Elements")
        if elements:
            median_ns = json.loads((path.parent / "estimates.json").read_text())["median"]["point_estimate"]
            name = " ".join(filter(None, (about["function_id"], about["value_str"])))
            rows.append((about["group_id"], name, elements / median_ns * 1e3))
    return rows


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="put it into benchmarks/results/core.md")
    args = options.parse_args()
    for path in MEASURED.glob("**/new/benchmark.json"):
        path.unlink()  # of an earlier run, perhaps of a benchmark that is no more
    benches = [f"--bench={name}" for name in ("codec", "window", "path", "tape")]
    subprocess.run(["cargo", "bench", "--locked", "-p", "tickcast-core", *benches], cwd=ROOT, check=True)
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# The core, on one core",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores,",
    ]
    lines[-1] += f" {compiler}. `python benchmarks/core.py`; what each measures stands at the head of its file in"
    lines[-1] += " `crates/tickcast-core/benches`. The figure behind a window is the number of instruments."
    lines += ["", "| bench | what | million/s |", "|---|---|---:|"]
    lines += [f"| {group} | {name} | {rate:,.1f} |" for group, name, rate in measured()]
    report = "\n".join(lines) + "\n"
    print(report)
    if args.write:
        (ROOT / "benchmarks/results/core.md").write_text(report)


if __name__ == "__main__":
    main()
