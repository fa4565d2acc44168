"""Checkpoints of the windows: how long a step keeps the judge, how long one takes, how long restoring takes.

python benchmarks/checkpoint.py [--ticks 5000000] [--write]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tickcast._core import Judge, MessageDecoder, TapeWriter, WindowCheckpoint

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from fixtures.ticks import as_batch  # noqa: E402 (the fixtures are beside, in tests)

START_NS = 1_700_000_000_000_000_000
MESSAGE = 4_096


def filled(ticks, instruments):
    """Return a judge that holds so many ticks, all within 20 minutes."""
    judge, decoder = Judge(), MessageDecoder("proto-batch", stream=1)
    step_ns = 1_000_000_000_000 // ticks
    for at in range(0, ticks, MESSAGE):
        rows = range(at, min(at + MESSAGE, ticks))
        payload = as_batch(
            [(f"SYM{r % instruments}", 100 + r % 97 / 8, 1 + r % 50, START_NS + r * step_ns) for r in rows]
        )
        pending = judge.begin(decoder.decode([payload], [1]), False)
        n = len(pending)
        none = np.full(n, np.nan).tobytes()
        judge.settle(
            pending, np.ones(n, np.uint8).tobytes(), bytes(4 * n), [("", False)], bytes(2 * n), none, none, b""
        )
    return judge


def measure(ticks, instruments, folder):
    """Return what one checkpoint of such windows costs."""
    judge, path = filled(ticks, instruments), Path(folder) / "windows.ckpt"
    steps, start = [], time.perf_counter()
    checkpoint, more = WindowCheckpoint(path, judge, 1), True
    while more:
        begun = time.perf_counter()
        more = checkpoint.step(judge, 1)
        steps.append(time.perf_counter() - begun)
        checkpoint.write()
    kept = checkpoint.finish()
    took = time.perf_counter() - start
    options = {"enrichments": [], "rules": [], "rule_set": "bench@1", "max_instruments": 1_024}
    tape = TapeWriter(Path(folder) / f"run-{instruments}", bytes=4 << 20, **options)
    begun = time.perf_counter()
    assert tape.restore(Judge(), path)[1] == kept == ticks
    restored = time.perf_counter() - begun
    steps_ms = np.array(steps) * 1e3
    return (
        f"| {ticks:,} | {instruments} | {path.stat().st_size / 1e6:.0f} | {len(steps)} | {np.median(steps_ms):.2f} "
        f"| {steps_ms.max():.2f} | {took:.2f} | {restored:.2f} |"
    )


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ticks", type=int, default=5_000_000)
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    lines = [
        "# Checkpoints of the windows",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), CPython "
        f"{platform.python_version()}. A step is what the judge waits for; writing is done beside it.",
        "",
        "| ticks held | instruments | MB | steps | median step, ms | longest step, ms | all of it, s | restoring, s |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for instruments in (1, 200):
            lines.append(measure(args.ticks, instruments, folder))
            print(lines[-1], flush=True)
    report = "\n".join(lines) + "\n"
    if args.write:
        (HERE / "results" / "checkpoint.md").write_text(report)


if __name__ == "__main__":
    main()
