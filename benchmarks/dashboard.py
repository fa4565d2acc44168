"""What the dashboard costs the browser: frames of the main thread and heap, at 10,000 trades/s for a minute.

    .venv/bin/python benchmarks/dashboard.py [--rate 10000] [--seconds 60] [--write]

A real `tickcast serve` on the simulator and a headless Chromium share the machine, nothing is pinned. A frame is the
time between two animation frames while the blotter shows the stream; the heap is taken after a garbage collection,
every ten seconds. Rows painted are counted, so that a page that gives up would show.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fixtures.chromium import NAMES  # noqa: E402
from fixtures.serving import Served  # noqa: E402

WARM_UP_S = 5
HEAP_EVERY_S = 10
RECORD = """() => {
  window.frames_ = [];
  let last = performance.now();
  const step = (now) => { window.frames_.push(now - last); last = now; requestAnimationFrame(step); };
  requestAnimationFrame(step);
}"""


def chromium() -> str:
    import shutil

    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SystemExit("no Chromium: `make chromium` installs one, CHROMIUM=/path names one")
    return found


def at(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2)


async def heap_mib(session) -> float:
    await session.send("HeapProfiler.collectGarbage")
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return round(next(m["value"] for m in metrics if m["name"] == "JSHeapUsedSize") / 2**20, 1)


async def measure(address: str, seconds: int) -> dict[str, object]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        page = await (await browser.new_context(viewport={"width": 1280, "height": 720}, bypass_csp=True)).new_page()
        await page.goto(f"http://{address}/#/blotter")
        await page.wait_for_function("window.tickcast?.painted > 70000")  # the store is full: from here on it is even
        await asyncio.sleep(WARM_UP_S)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        heaps = [await heap_mib(session)]
        await page.evaluate(RECORD)
        before = await page.evaluate("window.tickcast.painted")
        for _ in range(seconds // HEAP_EVERY_S):
            await asyncio.sleep(HEAP_EVERY_S)
            heaps.append(await heap_mib(session))
        frames = await page.evaluate("window.frames_")
        after = await page.evaluate("window.tickcast.painted")
        missing = await page.evaluate("window.tickcast.missing + window.tickcast.gapped")
        await browser.close()
        return {
            "framesPerSecond": round(len(frames) / (sum(frames) / 1000), 1),
            "frameMs": {"p50": at(frames, 0.5), "p95": at(frames, 0.95), "p99": at(frames, 0.99), "max": at(frames, 1)},
            "rowsPaintedPerSecond": round((after - before) / (sum(frames) / 1000)),
            "missingOrInGaps": missing,
            "heapMiB": heaps,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/dashboard.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = f"sim://?rate={options.rate}&instruments=200&seed=1"
        with Served(Path(folder), "--source", source) as served:
            figures = asyncio.run(measure(served.address, options.seconds))
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    result = {"rate": options.rate, "seconds": options.seconds, "machine": machine, **figures}
    print(json.dumps(result, indent=2))
    if options.write:
        (ROOT / "benchmarks/results/dashboard.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
