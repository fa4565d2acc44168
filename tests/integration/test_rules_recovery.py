"""Rules that hang, die or can't be imported any more: one stall, a breaker, and everybody else goes on."""

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import uvloop
from rules_support import ALL, kill, pids, running, said, ticks_of, timed, until, warm

from tickcast.rules import INVALID, UNKNOWN, VALID

COLUMNS = """
    @rules.check(reason="no")
    def stuck(ticks):
        if ticks.of("I042").any():
            {fault}
        return np.ones(len(ticks), bool)
"""
EACH = """
    @rules.check_each
    def stuck(tick):
        if tick.instrument_id == "I042":
            {fault}
"""
ASYNC = """
    @rules.check_each
    async def stuck(tick):
        await asyncio.sleep(0.001)
        if tick.instrument_id == "I042":
            {fault}
"""
KINDS = pytest.mark.parametrize("source", [COLUMNS, EACH, ASYNC], ids=["columns", "each", "async"])
UNAVAILABLE = "Rule unavailable: stuck"


def breakers(runner):
    return [(breaker.rule, breaker.instrument) for breaker in runner.state().breakers]


@KINDS
@pytest.mark.parametrize(("policy", "status"), [("fail-closed", INVALID), ("fail-open", UNKNOWN)])
async def test_a_rule_that_hangs_on_one_instrument_costs_one_stall(tmp_path, source, policy, status):
    async with running(tmp_path, source.format(fault="hang()"), policy=policy) as run:
        await warm(run)
        verdicts, stall_s = await timed(run, ticks_of(ALL))
        assert verdicts.status.tolist() == [status if code == 42 else VALID for code in ALL]
        assert said(verdicts)[42] == UNAVAILABLE
        assert verdicts.rule[42] == 1
        assert breakers(run) == [("stuck", "I042")]
        assert "250 ms" in run.state().breakers[0].why
        assert stall_s < 5
        slowest_s = 0.0
        for _ in range(20):
            verdicts, took_s = await timed(run, ticks_of(ALL))
            assert said(verdicts)[42] == UNAVAILABLE
            slowest_s = max(slowest_s, took_s)
        assert slowest_s < 0.25  # never again as long as a deadline
        assert run.state().counters.hangs <= 2


@KINDS
async def test_a_rule_that_ends_its_worker_is_pinned_down(tmp_path, source):
    async with running(tmp_path, source.format(fault="os._exit(1)")) as run:
        await warm(run)
        verdicts = await run.submit(ticks_of(ALL))
        assert verdicts.status.tolist() == [INVALID if code == 42 else VALID for code in ALL]
        assert said(verdicts)[42] == UNAVAILABLE
        assert run.state().breakers[0].why == "ended its worker"
        assert run.state().counters.deaths in (2, 3)
        deaths = run.state().counters.deaths
        assert (await run.submit(ticks_of(ALL))).status.tolist() == verdicts.status.tolist()
        assert run.state().counters.deaths == deaths


def test_a_worker_that_lost_its_socket_is_replaced_in_mid_stream(tmp_path):
    # As a killed worker is between the end of its socket and its own: what it is told then comes back later.
    cut = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).shutdown(socket.SHUT_RDWR); time.sleep(0.1)"

    async def stream():
        async with running(tmp_path, COLUMNS.format(fault=cut)) as run:
            await warm(run)
            futures = []
            while not breakers(run):
                futures.append(run.submit(ticks_of(ALL)))
                await asyncio.sleep(0.005)
            for verdicts in await asyncio.gather(*futures):
                assert verdicts.status.tolist() == [INVALID if code == 42 else VALID for code in ALL]
                assert said(verdicts)[42] == UNAVAILABLE

    # The processor's own kind of loop: a transport of uvloop raises where asyncio's is silent.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stream())


async def test_two_workers_go_on_beside_a_third_that_hangs(tmp_path):
    async with running(tmp_path, COLUMNS.format(fault="hang()"), workers=3) as run:
        hung = run.submit(ticks_of(ALL))
        others = [code for code in ALL if code % 3 != 42 % 3]
        _, took_s = await timed(run, ticks_of(others))
        assert not hung.done()
        assert took_s < 0.25
        assert (await hung).status.tolist().count(INVALID) == 1


async def test_batches_behind_a_hang_come_out_right(tmp_path):
    async with running(tmp_path, COLUMNS.format(fault="hang()")) as run:
        verdicts = await asyncio.gather(*(run.submit(ticks_of(ALL)) for _ in range(30)))
        assert {tuple(np.flatnonzero(each.status != VALID)) for each in verdicts} == {(42,)}
        assert run.state().counters.hangs == 2


async def test_a_killed_worker_loses_no_tick(tmp_path):
    source = """
        @rules.enrich("pid")
        def slow(ticks):
            time.sleep(0.005)
            return np.full(len(ticks), float(os.getpid()))
    """
    async with running(tmp_path, source, workers=2) as run:
        await warm(run)
        futures = [run.submit(ticks_of(ALL)) for _ in range(60)]
        await futures[5]
        kill(pids(run)[0])
        verdicts = await asyncio.gather(*futures)
        assert all((each.status == VALID).all() for each in verdicts)
        assert len({pid for each in verdicts for pid in each.enrichments[0]}) == 3
        assert run.state().counters.deaths == 1
        assert run.state().breakers == []


async def test_workers_killed_again_and_again_blame_no_rule(tmp_path):
    async with running(tmp_path, "@rules.check_each\ndef slow(tick): time.sleep(0.002)") as run:
        for _ in range(4):
            await warm(run)
            future = run.submit(ticks_of(ALL[:20]))
            await until(lambda: run.state().workers[0].state == "busy")
            kill(pids(run)[0])
            assert (await future).status.tolist() == [VALID] * 20
        assert run.state().breakers == []


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_death_between_two_awaits_of_a_rule_is_pinned_down(tmp_path, batches):
    source = """
        import threading

        @rules.check_each
        async def stuck(tick):
            if tick.instrument_id == "I042":
                threading.Thread(target=lambda: (time.sleep(0.02), os._exit(1))).start()
            await asyncio.sleep(0.1)
    """
    async with running(tmp_path, source) as run:
        verdicts = await asyncio.gather(*(run.submit(ticks_of([7, 42, 8])) for _ in range(batches)))
        assert [said(each) for each in verdicts] == [[None, UNAVAILABLE, None]] * batches
        assert breakers(run) == [("stuck", "I042")]


async def test_workers_that_keep_ending_do_not_stop_the_stream(tmp_path):
    source = """
        import threading
        threading.Thread(target=lambda: (time.sleep(0.2), os._exit(1)), daemon=True).start()
        rules.check_each(name="fine")(lambda tick: None)
    """
    async with running(tmp_path, source) as run:
        async with asyncio.timeout(30):
            while not run.state().breakers:
                _, took_s = await timed(run, ticks_of([1]))
                assert took_s < 5
                await asyncio.sleep(0.02)
        assert "keep ending" in run.state().breakers[0].why
        _, took_s = await timed(run, ticks_of([1]))
        assert took_s < 1


async def test_a_stopped_worker_is_replaced(tmp_path):
    source = "@rules.check(reason='no')\ndef fine(ticks): return np.ones(len(ticks), bool)"
    async with running(tmp_path, source) as run:
        await warm(run)
        os.kill(pids(run)[0], signal.SIGSTOP)
        verdicts, took_s = await timed(run, ticks_of(ALL))
        assert (verdicts.status == VALID).all()
        assert took_s < 5
        assert run.state().breakers == []


async def test_an_idle_worker_and_a_spare_that_die_are_replaced(tmp_path):
    async with running(tmp_path, "rules.check_each(name='fine')(lambda tick: None)") as run:
        await warm(run)
        before = {*pids(run), *pids(run, "spare")}
        for pid in before:
            kill(pid)
        await until(lambda: len({*pids(run), *pids(run, "spare")} - before - {0}) == 2)
        assert (await run.submit(ticks_of([1]))).status.tolist() == [VALID]


async def test_a_rule_that_fails_on_five_instruments_is_cut_off_altogether(tmp_path):
    source = """
        @rules.check_each
        def stuck(tick):
            if int(tick.instrument_id[1:]) >= 60:
                hang()
    """
    async with running(tmp_path, source, deadline_s=0.1) as run:
        verdicts = await run.submit(ticks_of(ALL))
        assert set(said(verdicts)) == {UNAVAILABLE}
        assert len(run.state().breakers) == 6
        assert ("stuck", None) in breakers(run)
        assert run.state().rules[0].breaker == "open"
        assert run.state().counters.hangs == 5


async def test_other_rules_go_on_judging_what_a_rule_is_cut_off_from(tmp_path):
    first = """
    @rules.check(reason="dear")
    def dear(ticks):
        return ticks.price < 10
"""
    async with running(tmp_path, first + COLUMNS.format(fault="hang()")) as run:
        await run.submit(ticks_of(ALL))
        verdicts = await run.submit(ticks_of([42, 42, 7], price=20.0))
        assert said(verdicts) == ["dear"] * 3  # it comes first, and was asked


async def test_an_await_past_its_deadline_is_cut_off_without_killing_the_worker(tmp_path):
    async with running(tmp_path, ASYNC.format(fault="await asyncio.Event().wait()")) as run:
        before = pids(run)
        verdicts = await run.submit(ticks_of(ALL))
        assert verdicts.status.tolist() == [INVALID if code == 42 else VALID for code in ALL]
        assert pids(run) == before
        assert run.state().counters.timeouts == 1
        assert run.state().counters.hangs == 0
        assert breakers(run) == [("stuck", "I042")]


async def test_a_probe_closes_the_breaker_once_the_rule_comes_back(tmp_path):
    switch = tmp_path / "hang"
    switch.touch()
    source = COLUMNS.format(fault=f"\n            while os.path.exists({str(switch)!r}): pass")
    async with running(tmp_path, source, deadline_s=0.1) as run:
        assert said(await run.submit(ticks_of(ALL)))[42] == UNAVAILABLE
        since_ns = run.state().breakers[0].since_ns
        await until(lambda: run.state().counters.probes == 1 and run.state().breakers[0].state == "open")
        assert run.state().breakers[0].since_ns == since_ns
        assert said(await run.submit(ticks_of(ALL)))[42] == UNAVAILABLE
        worker = pids(run)
        switch.unlink()
        await until(lambda: not run.state().breakers)
        assert (await run.submit(ticks_of(ALL))).status.tolist() == [VALID] * 100
        assert pids(run) == worker  # probes are none of its business
        await until(lambda: not pids(run, "probe"))


async def test_probes_run_at_the_lowest_priority_and_on_a_process_of_their_own(tmp_path):
    async with running(tmp_path, COLUMNS.format(fault="hang()"), deadline_s=0.1) as run:
        await run.submit(ticks_of(ALL))
        await until(lambda: any(w.role == "probe" and w.state == "busy" for w in run.state().workers))
        [probe] = pids(run, "probe")
        assert os.getpriority(os.PRIO_PROCESS, probe) == 19
        assert all(os.getpriority(os.PRIO_PROCESS, pid) == 0 for pid in pids(run))
        await until(lambda: run.state().counters.probes == 1 and run.state().breakers[0].state == "open")


async def test_rules_that_can_no_longer_be_imported_are_judged_by_policy_and_recover(tmp_path):
    gone = tmp_path / "gone"
    source = f"""
        if os.path.exists({str(gone)!r}):
            raise ImportError("no licence server")
        rules.check_each(name="stuck")(lambda tick: None)
    """
    async with running(tmp_path, source) as run:
        await warm(run)
        gone.touch()
        for pid in [*pids(run, "spare"), *pids(run)]:
            kill(pid)
        verdicts = await run.submit(ticks_of([1, 2]))
        assert said(verdicts) == [UNAVAILABLE] * 2
        assert "no licence server" in run.state().breakers[-1].why
        began, failures = time.monotonic(), run.state().counters.start_failures
        await until(lambda: run.state().counters.start_failures >= failures + 2)
        assert time.monotonic() - began > 0.5  # ever more slowly
        gone.unlink()
        await until(lambda: run.state().breakers == [])
        assert (await run.submit(ticks_of([1, 2]))).status.tolist() == [VALID] * 2


async def test_what_a_rule_has_started_dies_with_its_worker(tmp_path):
    child = tmp_path / "child"
    source = f"""
        import subprocess

        @rules.check(reason="no")
        def stuck(ticks):
            child = subprocess.Popen(["sleep", "600"])
            open({str(child)!r}, "a").write(f"{{child.pid}}\\n")
            hang()
    """
    async with running(tmp_path, source, deadline_s=0.2) as run:
        assert said(await run.submit(ticks_of([1]))) == [UNAVAILABLE]
        children = [int(pid) for pid in child.read_text().split()]
        assert children
        await until(lambda: not any(Path(f"/proc/{pid}/comm").exists() and zombie(pid) is False for pid in children))


def zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@KINDS
@pytest.mark.parametrize("fault", ["hang()", "os._exit(1)"])
async def test_a_rule_in_shadow_that_hangs_or_dies_changes_no_trade(tmp_path, source, fault):
    shadowed = source.replace('reason="no"', 'reason="no", shadow=True').replace(
        "check_each\n", "check_each(shadow=True)\n"
    )
    live = """
    @rules.check(reason="odd")
    def even(ticks):
        return ticks.instrument % 2 == 0
"""
    async with running(tmp_path, shadowed.format(fault=fault) + live) as run:
        await warm(run)
        for _ in range(3):
            verdicts = await run.submit(ticks_of(ALL))
            assert said(verdicts) == ["odd" if code % 2 else None for code in ALL]
        assert breakers(run) == [("stuck", "I042")]
        stuck, even = run.state().rules
        assert (stuck.mode, stuck.rejects, even.mode) == ("shadow", 0, "live")
        assert run.state().counters.unavailable == 0
