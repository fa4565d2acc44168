"""What the dashboard costs the browser: frames of the main thread and heap, at 10,000 trades/s for a minute.

    .venv/bin/python benchmarks/dashboard.py [--rate 10000] [--seconds 60] [--runs 3] [--write]

A real `tickcast serve` on the simulator and a headless Chromium share the machine, nothing is pinned. A frame is the
time between two animation frames while the blotter shows the stream; heaps are those of the page and of the worker
that holds the connection, taken after a garbage collection, every ten seconds. Rows painted are counted, so that a page
that gives up would show.
"""

import argparse
import asyncio
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fixtures.cdp import covering_tabs  # noqa: E402
from fixtures.chromium import NAMES  # noqa: E402
from fixtures.serving import Served  # noqa: E402

RESULT = ROOT / "benchmarks/results/dashboard.md"
WARM_UP_S = 5
HEAP_EVERY_S = 10
RECORD = """(() => {
  globalThis.frames_ = [];
  let last = performance.now();
  const step = (now) => { frames_.push(now - last); last = now; requestAnimationFrame(step); };
  requestAnimationFrame(step);
})()"""


class Figures(NamedTuple):
    """Of one run."""

    frames: list[float]
    """Milliseconds."""
    painted_per_s: float
    missing: int
    page_mib: list[float]
    worker_mib: list[float]
    version: str


def chromium() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SystemExit("no Chromium: `make chromium` installs one, CHROMIUM=/path names one")
    return found


def at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(address: str, seconds: int) -> Figures:
    async with covering_tabs(chromium()) as browser:
        page = await browser.tab(f"http://{address}/#/blotter")
        # The store is full: from here on it is even.
        await page.reaches("globalThis.tickcast?.painted > 70000", 60)
        await asyncio.sleep(WARM_UP_S)
        worker = await browser.shared_worker()

        async def heaps() -> tuple[float, float]:
            return await page.heap_bytes() / 2**20, await worker.heap_bytes() / 2**20

        held = [await heaps()]
        await page.evaluate(RECORD)
        before = await page.evaluate("tickcast.painted")
        for _ in range(seconds // HEAP_EVERY_S):
            await asyncio.sleep(HEAP_EVERY_S)
            held.append(await heaps())
        frames = await page.evaluate("frames_")
        painted = await page.evaluate("tickcast.painted") - before
        missing = await page.evaluate("tickcast.missing + tickcast.gapped")
        version = (await browser.call("Browser.getVersion"))["product"]
        return Figures(frames, painted / (sum(frames) / 1000), missing, *map(list, zip(*held, strict=True)), version)


def report(rate: int, seconds: int, runs: list[Figures]) -> str:
    lines = [
        f"# The blotter at {rate:,} trades/s",
        "",
        f"{datetime.datetime.now(datetime.UTC).date()}, {runs[0].version}, headless, 1280 × 720, on {os.cpu_count()} "
        f"shared virtual cores that carry simulator, processor and gateway as well; nothing pinned; {seconds} s "
        "measured, once the page's store is full. Heaps after a collection, first and last, and the most in between; "
        "columns of fixed size lie outside of them. The seven collections are among the frames.",
        "",
        "| run | frames/s | frame p50 / p95 / p99 / max, ms | rows painted/s | missing or in gaps "
        "| heap of the page, MiB | heap of the worker, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for number, run in enumerate(runs, 1):
        spread = " / ".join(f"{at(run.frames, share):.1f}" for share in (0.5, 0.95, 0.99, 1))
        heaps = [f"{held[0]:.1f} → {held[-1]:.1f} (≤ {max(held):.1f})" for held in (run.page_mib, run.worker_mib)]
        per_s = len(run.frames) / (sum(run.frames) / 1000)
        cells = (number, f"{per_s:.1f}", spread, f"{run.painted_per_s:,.0f}", run.missing, *heaps)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    p95 = sorted(at(run.frames, 0.95) for run in runs)[len(runs) // 2]
    return "\n".join([*lines, "", f"Median p95 of the frames: **{p95:.1f} ms**, of 16.7 at 60 frames/s.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"into {RESULT.relative_to(ROOT)}")
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            source = f"sim://?rate={options.rate}&instruments=200&seed=1"
            with Served(Path(folder), "--source", source) as served:
                runs.append(asyncio.run(measure(served.address, options.seconds)))
    text = report(options.rate, options.seconds, runs)
    print(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
