"""What rules cost, in worker processes as in production.

    python benchmarks/rules.py [--seconds 4] [--workers 1 2] [--write]

Three questions:

1. How many ticks a second does an *unchanged* ``async`` function reach that waits 10 ms for each tick? The same
   function is measured in a plain ``async for`` loop, one tick after the other, and as an adopted rule.
2. What does a batch cost that a trivial rule over columns judges: the price of the process boundary?
3. What do the others feel of a rule that hangs on one of 100 instruments, at 1,000 ticks a second? Latency from
   `submit` to verdict before the hang, the stall, and latency afterwards, while the rule would still hang.

Every figure is of one run on this machine, after a warm-up; run it again before believing the last digit.
"""

import argparse
import asyncio
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import uvloop

import tickcast as tc
from tickcast.examples.quantlib import QuantLibrary
from tickcast.rules import VALID, make_runner

sys.path.insert(0, str(Path(__file__).parent))  # the workers find this file as "rules"

INSTRUMENTS = [f"I{number:03d}" for number in range(100)]
IN_FLIGHT = 8

library = QuantLibrary()

waiting = tc.RuleSet("waiting", version="1")
waiting.adopt(library.validate_and_enrich)

trivial = tc.RuleSet("trivial", version="1")


@trivial.check(reason="no")
def positive(ticks: tc.Ticks) -> np.ndarray:
    return ticks.price > 0


hanging = tc.RuleSet("hanging", version="1")


@hanging.check(reason="no")
def hangs_on_a_signal(ticks: tc.Ticks) -> np.ndarray:
    # The price is the signal: from one moment on, one instrument sends it with every tick.
    while (ticks.price[ticks.of("I042")] == 13.0).any():
        pass
    return ticks.price > 0


def batch(rows, price=1.0, first=0):
    codes = ((first + np.arange(rows)) % len(INSTRUMENTS)).astype(np.int32)
    return tc.Ticks(np.full(rows, price), np.ones(rows, np.int64), np.arange(rows), codes, INSTRUMENTS)


async def plain_loop(seconds):
    """One tick after the other, as in ``async for tick in stream: await validate_and_enrich(tick)``."""
    ticks, judged = list(batch(100).each()), 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        await library.validate_and_enrich(ticks[judged % 100])
        judged += 1
    return judged / (time.perf_counter() - began)


async def throughput(rule_set, rows, workers, seconds):
    """Ticks a second with `IN_FLIGHT` batches under way."""
    runner = make_runner(rule_set, f"rules:{rule_set.name}", workers=workers)
    await runner.start()
    ticks = batch(rows)
    await runner.submit(ticks)
    under_way, judged = [], 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        while len(under_way) < IN_FLIGHT:
            under_way.append(runner.submit(ticks))
        assert (await under_way.pop(0)).status[0] == VALID
        judged += rows
    for future in under_way:
        await future
        judged += rows
    took = time.perf_counter() - began
    assert runner.state().counters.unavailable == 0
    await runner.close()
    return judged / took


async def round_trip(rows, workers, count):
    """Seconds per batch, one at a time: median."""
    runner = make_runner(trivial, "rules:trivial", workers=workers)
    await runner.start()
    ticks = batch(rows)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await runner.submit(ticks)
        took.append(time.perf_counter() - began)
    await runner.close()
    return float(np.median(took[count // 10 :]))


async def stream(runner, seconds, price_of_42, rate=1_000, rows=5):
    """Send batches on an absolute clock; return latencies of ticks that are not of the hanging instrument."""
    latencies, pending = [], []

    def done(began, codes):
        def note(_future):
            latencies.extend([time.perf_counter() - began] * int((codes != 42).sum()))

        return note

    began = time.perf_counter()
    for number in range(int(seconds * rate / rows)):
        due = began + number * rows / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        ticks = batch(rows, first=number * rows)
        price = np.where(ticks.instrument == 42, price_of_42, 1.0)
        ticks = tc.Ticks(price, ticks.volume, ticks.timestamp_ns, ticks.instrument, INSTRUMENTS)
        future = runner.submit(ticks)
        future.add_done_callback(done(due, ticks.instrument))
        pending.append(future)
    await asyncio.gather(*pending)
    return np.array(latencies) * 1e3


async def hang(workers, seconds):
    """Milliseconds: (p50, p99) before, the longest latency during the stall, (p50, p99) after; and probes meanwhile."""
    runner = make_runner(hanging, "rules:hanging", workers=workers)
    await runner.start()
    async with asyncio.timeout(30):
        while any(worker.state == "starting" for worker in runner.state().workers):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
    await stream(runner, 0.5, 1.0)
    before = await stream(runner, seconds, 1.0)
    during = await stream(runner, 1.5, 13.0)
    after = await stream(runner, seconds, 13.0)
    state = runner.state()
    await runner.close()
    assert [(b.rule, b.instrument) for b in state.breakers] == [("hangs_on_a_signal", "I042")]
    return np.percentile(before, (50, 99)), during.max(), np.percentile(after, (50, 99)), state.counters


said: list[str] = []


def say(line):
    print(line)
    said.append(line)


def table(title, rows):
    say(f"\n{title}")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--write", action="store_true", help="put it into benchmarks/results/rules.md")
    options = parser.parse_args()
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    say(f"{time.strftime('%Y-%m-%d')}, {machine}")
    say(f"load average at the start: {os.getloadavg()[0]:.1f}")

    loop_rate = await plain_loop(options.seconds)
    rows = [("plain async for loop", f"{loop_rate:10,.0f} ticks/s")]
    for workers in options.workers:
        for size in (256, 4096):
            rate = await throughput(waiting, size, workers, options.seconds)
            name = f"adopted, {workers} worker{'s' * (workers > 1)}, batches of {size:,}"
            rows.append((name, f"{rate:10,.0f} ticks/s  {rate / loop_rate:6,.0f} x"))
    table("async function with a 10 ms wait, unchanged", rows)

    rows = []
    for size in (1, 64, 1024, 4096):
        took = [await round_trip(size, workers, 400) for workers in (0, 1)]
        rate = await throughput(trivial, size, 1, options.seconds / 4)
        there_and_back = f"in line {took[0] * 1e6:6.0f} us   worker {took[1] * 1e6:6.0f} us"
        rows.append((f"batch of {size:,}", f"{there_and_back}   {rate:12,.0f} ticks/s"))
    table("trivial rule over columns: one batch there and back, and several under way", rows)

    before, stall, after, counters = await hang(1, options.seconds)
    table(
        "a rule that hangs (while True) on one of 100 instruments, 1,000 ticks/s: latency of the others",
        [
            ("before", f"p50 {before[0]:6.2f} ms   p99 {before[1]:6.2f} ms"),
            ("the stall", f"longest {stall:6.0f} ms   ({counters.hangs} workers killed, deadline 250 ms)"),
            ("afterwards", f"p50 {after[0]:6.2f} ms   p99 {after[1]:6.2f} ms   ({counters.probes} probes meanwhile)"),
        ],
    )
    if options.write:
        report = "\n".join(["# What rules cost", "", "`python benchmarks/rules.py`", "", "```", *said, "```", ""])
        (Path(__file__).parent / "results/rules.md").write_text(report)


if __name__ == "__main__":
    uvloop.run(main())
