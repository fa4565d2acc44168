"""Rules in worker processes: the same results as in line, in order, several batches at once."""

import asyncio
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from rules_support import ALL, NAMES, alive, pids, plain, running, said, ticks_of, until, write_rules

import tickcast as tc
from tickcast.errors import RuleError
from tickcast.rules import VALID, load, make_runner

MIXED = """
    counts = {}

    @rules.check(reason="too dear")
    def dear(ticks):
        return tc.Outcome(ticks.price < 90, ticks.price, 90.0)

    @rules.check_each
    def lucky(tick):
        if tick.volume == 13:
            raise ValueError(f"unlucky {tick.instrument_id}")
        return "fourteen" if tick.volume == 14 else None

    async def engine(tick):
        await asyncio.sleep(0.0001 * (tick.volume % 3))
        if tick.volume == 15:
            raise KeyError(tick.instrument_id)
        return {"status": "INVALID" if tick.volume == 16 else 1, "score": tick.price / tick.volume, "reason": "16"}
    rules.adopt(engine, enrich=["score"])

    @rules.check(reason="every tenth of its instrument")
    def tenth(ticks):
        mask = np.ones(len(ticks), bool)
        for row, code in enumerate(ticks.instrument):
            name = ticks.instruments[code]
            counts[name] = counts.get(name, 0) + 1
            mask[row] = counts[name] % 10 != 0
        return mask

    @rules.check(reason="never")
    def picky(ticks):
        if (ticks.vwap_20m == 5).any():
            raise ValueError("five")
        return ticks.now_ns > 0

    @rules.enrich("notional", unit="USD")
    def notional(ticks):
        return ticks.price * ticks.volume
"""


def tape_of(seed, rows=3_000):
    random = np.random.default_rng(seed)
    return [
        random.uniform(1, 100, rows),
        random.integers(1, 40, rows),
        np.arange(rows) + 10**18,
        random.integers(0, len(NAMES), rows).astype(np.int32),
        random.integers(0, 60, rows).astype(float),
        np.arange(rows) + 10**18,
    ]


def batches(tape, cuts):
    price, volume, timestamp_ns, instrument, vwap_20m, now_ns = tape
    for first, last in zip([0, *cuts], [*cuts, len(price)], strict=True):
        rows = slice(first, last)
        yield tc.Ticks(
            price[rows], volume[rows], timestamp_ns[rows], instrument[rows], NAMES, vwap_20m[rows], now_ns[rows]
        )


async def judged(tape, cuts, spec, workers):
    runner = make_runner(None, spec, workers=workers, spares=0, deadline_s=5.0)
    await runner.start()
    try:
        verdicts = await asyncio.gather(*[runner.submit(ticks) for ticks in batches(tape, cuts)])
    finally:
        await runner.close()
    rows = [plain(each) for each in verdicts]
    columns = [b"".join(each[0][column] for each in rows) for column in range(4)]
    enrichments = np.concatenate([each.enrichments for each in verdicts], axis=1).tobytes()
    said_of_all, free_of_all = ([value for each in rows for value in each[part]] for part in (1, 2))
    return columns, enrichments, said_of_all, free_of_all


@pytest.mark.parametrize("seed", [1, 2])
async def test_results_depend_neither_on_workers_nor_on_batches(tmp_path, seed):
    spec = write_rules(tmp_path, MIXED)
    random = np.random.default_rng(seed + 100)
    tape = tape_of(seed)
    results = []
    for workers in (0, 0, 1, 3):
        sys.modules.pop(spec.partition(":")[0], None)  # its counts begin anew, as in a fresh worker
        cuts = sorted(random.choice(len(tape[0]), random.integers(0, 60), replace=False).tolist())
        results.append(await judged(tape, cuts, spec, workers))
    assert all(result == results[0] for result in results[1:])
    reasons = set(results[0][2])
    assert {"too dear", "fourteen", "16", "every tenth of its instrument", "Processing error: picky: five"} <= reasons


async def test_a_batch_larger_than_a_slot_is_cut_and_put_together(tmp_path):
    source = "@rules.check(reason='odd')\ndef even(ticks): return ticks.timestamp_ns % 2 == 0"
    async with running(tmp_path, source, spares=0) as run:
        codes = np.arange(20_000) % len(NAMES)
        verdicts = await run.submit(ticks_of(codes))
        assert (verdicts.status == VALID).tolist() == [row % 2 == 0 for row in range(20_000)]
        assert len(await run.submit(ticks_of([]))) == 0


async def test_many_batches_are_under_way_at_once(tmp_path):
    source = "@rules.check_each\nasync def waits(tick): await asyncio.sleep(0.1)"
    async with running(tmp_path, source, spares=0) as run:
        await run.submit(ticks_of([0]))
        began = time.monotonic()
        await asyncio.gather(*(run.submit(ticks_of(ALL)) for _ in range(8)))
        assert time.monotonic() - began < 0.6  # one after the other: 0.8 s


async def test_an_instrument_stays_with_its_worker(tmp_path):
    source = "rules.enrich('pid')(lambda ticks: np.full(len(ticks), float(os.getpid())))"
    async with running(tmp_path, source, workers=2, spares=0) as run:
        verdicts = [await run.submit(ticks_of(ALL)) for _ in range(3)]
        assert len({each.enrichments.tobytes() for each in verdicts}) == 1
        assert set(verdicts[0].enrichments[0].tolist()) == {float(pid) for pid in pids(run)}


async def test_rules_may_keep_views_of_their_ticks(tmp_path):
    source = """
        kept = []

        @rules.enrich("oldest")
        def oldest(ticks):
            kept.append(ticks.price)
            return np.full(len(ticks), kept[0][0])
    """
    async with running(tmp_path, source, spares=0) as run:
        for price in range(1, 30):
            verdicts = await run.submit(ticks_of([0], price=float(price)))
            assert verdicts.enrichments.tolist() == [[1.0]]


def test_what_rules_print_goes_to_stderr(tmp_path):
    source = """
        print("imported")

        @rules.check_each
        def chatty(tick):
            print("called", flush=True)
            os.write(1, b"raw")
    """
    spec = write_rules(tmp_path, source)
    script = f"""
import asyncio
from tickcast.rules import make_runner
import tickcast as tc
async def main():
    runner = make_runner(None, {spec!r}, workers=1)
    await runner.start()
    verdicts = await runner.submit(tc.Ticks([1.0], [1], [1], [0], ["AAA"]))
    print("status", verdicts.status[0])
    await runner.close()
asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "status 1\n"
    assert {"imported", "called"} <= set(done.stderr.replace("raw", "").split())


@pytest.mark.parametrize("hanging", [False, True])
def test_no_worker_outlives_its_parent(tmp_path, hanging):
    spec = write_rules(tmp_path, "@rules.check(reason='no')\ndef stuck(ticks): hang()")
    script = f"""
import asyncio, os
from tickcast.rules import make_runner
import tickcast as tc
async def main():
    runner = make_runner(None, {spec!r}, workers=2, deadline_s=60.0)
    await runner.start()
    if {hanging}:
        runner.submit(tc.Ticks([1.0, 1.0], [1, 1], [1, 1], [0, 1], ["AAA", "BBB"]))
        while sum(rule.calls for rule in runner.state().rules) < 2:
            await asyncio.sleep(0.01)
    print(*(worker.pid for worker in runner.state().workers), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) >= 2
        assert all(alive(pid) for pid in workers)
        parent.kill()
    asyncio.run(until(lambda: not any(alive(pid) for pid in workers)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("os._exit(3)", "the process importing the rules ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("rules.enrich('price')(len)", "'price' is a key of the trade"),
    ],
)
async def test_rules_that_cannot_be_imported_fail_the_start_with_one_line(tmp_path, source, message):
    runner = make_runner(None, write_rules(tmp_path, source), workers=2)
    with pytest.raises(RuleError, match=message) as caught:
        await runner.start()
    assert "\n" not in str(caught.value)


async def test_workers_must_declare_what_the_processor_was_told(tmp_path):
    spec = write_rules(tmp_path, "rules.check_each(name='a')(lambda tick: None)")
    rule_set = load(spec)
    write_rules(tmp_path, "rules.check_each(name='b')(lambda tick: None)  # longer", name=spec.partition(":")[0])
    runner = make_runner(rule_set, spec, workers=1)
    with pytest.raises(RuleError, match="changed on disk"):
        await runner.start()


async def test_a_rule_set_is_found_by_where_its_module_holds_it(tmp_path):
    rule_set = load(write_rules(tmp_path, "rules.check_each(name='no')(lambda tick: 'no')"))
    runner = make_runner(rule_set, None, workers=1)
    await runner.start()
    assert said(await runner.submit(ticks_of([0]))) == ["no"]
    assert runner.declaration == rule_set.declaration()
    await runner.close()


async def test_closing_cancels_what_is_under_way(tmp_path):
    async with running(tmp_path, "@rules.check(reason='no')\ndef stuck(ticks): hang()", deadline_s=60.0) as run:
        future = run.submit(ticks_of([0]))
        await until(lambda: run.state().rules[0].calls)
    assert future.cancelled()
    with pytest.raises(RuntimeError, match="not running"):
        run.submit(ticks_of([0]))
