"""Rule modules written for one test, and a runner with real worker processes on them."""

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import numpy as np

import tickcast as tc
from tickcast.rules import make_runner

HEADER = """
import asyncio, os, time
import numpy as np
import tickcast as tc

rules = tc.RuleSet("test", version="1")

def hang():
    while True:
        pass
"""
NAMES = [f"I{number:03d}" for number in range(100)]
ALL = np.arange(len(NAMES))


def write_rules(folder: Path, source: str, name: str | None = None) -> str:
    """Write a rule module and return the spec that names its rules."""
    name = name or f"rules_{abs(hash(source)):x}"
    (folder / f"{name}.py").write_text(HEADER + dedent(source))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return f"{name}:rules"


@asynccontextmanager
async def running(folder: Path, source: str, **options):
    """Yield a started runner on these rules; 250 ms, one worker and one spare, fail-closed unless said otherwise."""
    spec = write_rules(folder, source)
    runner = make_runner(None, spec, **({"workers": 1, "spares": 1} | options))
    await runner.start()
    try:
        yield runner
    finally:
        pids = [worker.pid for worker in runner.state().workers]
        await runner.close()
        assert not [pid for pid in pids if alive(pid)]


def ticks_of(codes, price=1.0, names=NAMES):
    """Return ticks of these instruments."""
    codes = np.asarray(codes, np.int32)
    rows = len(codes)
    return tc.Ticks(np.full(rows, price), np.ones(rows, np.int64), np.arange(rows), codes, names)


def said(verdicts):
    """Return the reason of each row."""
    return [verdicts.reason_of(row) for row in range(len(verdicts))]


def plain(verdicts):
    """Return everything about verdicts in a form that can be compared."""
    columns = [verdicts.status, verdicts.rule, verdicts.observed, verdicts.limit, verdicts.enrichments]
    free = [verdicts.is_text[code] for code in verdicts.reason]
    return [column.tobytes() for column in columns], said(verdicts), free


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(runner, role="worker"):
    """Return the processes in a role."""
    return [worker.pid for worker in runner.state().workers if worker.role == role]


async def until(condition, timeout_s=20.0):
    """Wait for a condition and return what it returned."""
    async with asyncio.timeout(timeout_s):
        while not (value := condition()):
            await asyncio.sleep(0.005)
    return value


async def warm(runner, spares=1):
    """Wait until spares stand by."""
    await until(lambda: [w.state for w in runner.state().workers if w.role == "spare"].count("idle") >= spares)


async def timed(runner, ticks):
    """Judge ticks; return verdicts and seconds."""
    began = time.monotonic()
    verdicts = await runner.submit(ticks)
    return verdicts, time.monotonic() - began


def kill(pid):
    """kill -9."""
    os.kill(pid, 9)
