"""`vwap_20m` of recorded ticks against an independent exact computation, in order and shuffled within ten minutes."""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pytest

from fixtures.recorded import RECORDED, write_csv

WINDOW_NS = 20 * 60 * 10**9
TEN_MINUTES_NS = 10 * 60 * 10**9
TOLERANCE = Fraction(1, 10**12)


class Sums:
    """Sums of price × volume and of volume up to a rank, as exact integers (a Fenwick tree)."""

    def __init__(self, size):
        self.pv = [0] * (size + 1)
        self.v = [0] * (size + 1)

    def add(self, rank, pv, v):
        i = rank + 1
        while i < len(self.pv):
            self.pv[i] += pv
            self.v[i] += v
            i += i & -i

    def up_to(self, rank):
        pv = v = 0
        i = rank
        while i > 0:
            pv += self.pv[i]
            v += self.v[i]
            i -= i & -i
        return pv, v


def exact_vwaps(trades):
    """Yield (row, exact VWAP) of the VALID rows, straight from the definition."""
    from bisect import bisect_right

    times = defaultdict(list)
    for t in trades:
        if t["status"] == "VALID":
            times[t["instrumentId"]].append(int(t["timestampNs"]))
    sums = {name: Sums(len(stamps)) for name, stamps in times.items()}
    used = defaultdict(int)
    for stamps in times.values():
        stamps.sort()
    for row, t in enumerate(trades):
        if t["status"] != "VALID":
            continue
        name, ts, volume = t["instrumentId"], int(t["timestampNs"]), int(t["volume"])
        # A double is an integer multiple of 2**-60 within the price band, opened or not.
        scaled = Fraction(t["price"]) * 2**60
        assert scaled.denominator == 1
        stamps, tree = times[name], sums[name]
        # Equal stamps get ranks of their own; which one is indifferent, all of them lie in the window together.
        first = bisect_right(stamps, ts - 1)
        tree.add(first + used[name, ts], scaled.numerator * volume, volume)
        used[name, ts] += 1
        high, low = tree.up_to(bisect_right(stamps, ts)), tree.up_to(bisect_right(stamps, ts - WINDOW_NS))
        yield row, Fraction(high[0] - low[0], (high[1] - low[1]) * 2**60)


def replay(path, env=None):
    out = subprocess.run(
        [sys.executable, "-m", "tickcast", "replay", str(path), "--output", "-"],
        capture_output=True,
        check=True,
        env={**os.environ, **(env or {})},
    )
    return [json.loads(line) for line in out.stdout.splitlines()]


def agree(trades):
    checked = 0
    for row, exact in exact_vwaps(trades):
        found = Fraction(trades[row]["vwap20m"])
        assert abs(found - exact) <= exact * TOLERANCE, f"row {row}: {float(found)!r}, exactly {float(exact)!r}"
        checked += 1
    return checked


def rows_of(path: Path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as f:
        return list(csv.DictReader(f))


def shuffled_within(rows, span_ns, seed):
    """Shuffle so that no row moves further than its block of ``span_ns``."""
    blocks = defaultdict(list)
    for row in rows:
        blocks[int(row["timestamp_ns"]) // span_ns].append(row)
    dice = random.Random(seed)
    for block in blocks.values():
        dice.shuffle(block)
    return [row for key in sorted(blocks) for row in blocks[key]]


@pytest.mark.parametrize("recorded", RECORDED)
@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_vwap_agrees_with_exact_arithmetic(recorded, shuffled, tmp_path):
    path = recorded.path(tmp_path)
    expected = len(rows_of(path))
    if shuffled:
        path = write_csv(tmp_path / "shuffled.csv", shuffled_within(rows_of(path), TEN_MINUTES_NS, seed=7))
    trades = replay(path, recorded.env)
    assert len(trades) == expected
    assert agree(trades) == sum(t["status"] == "VALID" for t in trades) > recorded.least_valid
