"""Judging in line: order, reasons, culprits, awaits, what counts as raised."""

import asyncio
import enum
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tickcast as tc
from tickcast.errors import RuleError
from tickcast.rules import INVALID, UNKNOWN, VALID, make_runner

NAMES = ["AAA", "BBB", "CCC", "DDD"]


def ticks_of(prices, instrument=None, **columns):
    rows = len(prices)
    codes = np.arange(rows) % len(NAMES) if instrument is None else instrument
    return tc.Ticks(prices, np.arange(1, rows + 1), np.arange(rows), np.asarray(codes, np.int32), NAMES, **columns)


async def judged(rules, *batches, **options):
    runner = make_runner(rules, None, workers=0, **options)
    await runner.start()
    try:
        verdicts = await asyncio.gather(*(runner.submit(ticks) for ticks in batches))
        return verdicts[0] if len(batches) == 1 else verdicts, runner.state()
    finally:
        await runner.close()


def said(verdicts):
    return [verdicts.reason_of(row) for row in range(len(verdicts))]


async def test_the_first_failing_check_gives_the_reason_and_later_rules_see_only_what_stands():
    rules = tc.RuleSet("order")
    seen = []
    rules.check(reason="too low", name="low")(lambda ticks: ticks.price >= 2)
    rules.check(reason="too high", name="high")(lambda ticks: seen.append(ticks.price.tolist()) or ticks.price <= 3)
    rules.enrich("double")(lambda ticks: seen.append(ticks.price.tolist()) or ticks.price * 2)
    verdicts, _ = await judged(rules, ticks_of([1.0, 2.0, 3.0, 4.0]))
    assert verdicts.status.tolist() == [INVALID, VALID, VALID, INVALID]
    assert said(verdicts) == ["too low", None, None, "too high"]
    assert verdicts.rule.tolist() == [1, 0, 0, 2]
    assert seen == [[2.0, 3.0, 4.0], [2.0, 3.0]]
    np.testing.assert_array_equal(verdicts.enrichments, [[np.nan, 4.0, 6.0, np.nan]])


async def test_enrichments_are_absent_where_a_later_check_fails():
    rules = tc.RuleSet("enrich")
    rules.enrich("double")(lambda ticks: (ticks.price * 2).astype(np.float32))
    rules.check(reason="no", name="no")(lambda ticks: ticks.price < 2)
    verdicts, _ = await judged(rules, ticks_of([1.0, 2.0]))
    np.testing.assert_array_equal(verdicts.enrichments, [[2.0, np.nan]])


async def test_an_outcome_says_what_was_seen_of_the_rejected():
    rules = tc.RuleSet("outcome")
    rules.check(reason="no", name="no")(lambda ticks: tc.Outcome(ticks.price < 3, observed=ticks.price, limit=3.0))
    verdicts, _ = await judged(rules, ticks_of([2.0, 4.0]))
    np.testing.assert_array_equal(verdicts.observed, [np.nan, 4.0])
    np.testing.assert_array_equal(verdicts.limit, [np.nan, 3.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_exactly_the_culprits_of_a_rule_that_raises_are_invalid(bad):
    rules = tc.RuleSet("raises")

    @rules.check(reason="never")
    def picky(ticks):
        if (ticks.price == 13).any():
            raise ValueError("unlucky price")
        return np.ones(len(ticks), bool)

    verdicts, state = asyncio.run(judged(rules, ticks_of(np.where(bad, 13.0, 1.0))))
    assert (verdicts.status == INVALID).tolist() == bad
    assert {said(verdicts)[row] for row in np.flatnonzero(bad)} <= {"Processing error: picky: unlucky price"}
    assert state.rules[0].raised == sum(bad)


async def test_an_enrichment_that_raises_counts_as_a_check_that_raises():
    rules = tc.RuleSet("raises")

    @rules.enrich("ratio")
    def ratio(ticks):
        if (ticks.price == 2).any():
            raise ArithmeticError
        return ticks.price

    verdicts, _ = await judged(rules, ticks_of([1.0, 2.0, 3.0]))
    assert said(verdicts) == [None, "Processing error: ratio: ArithmeticError", None]
    np.testing.assert_array_equal(verdicts.enrichments, [[1.0, np.nan, 3.0]])


@pytest.mark.parametrize(
    "answer",
    [
        lambda ticks: True,
        lambda ticks: None,
        lambda ticks: np.ones(len(ticks)),
        lambda ticks: np.ones(len(ticks) + 1, bool),
        lambda ticks: np.ones((len(ticks), 1), bool),
        lambda ticks: tc.Outcome(np.ones(len(ticks), int)),
        lambda ticks: tc.Outcome(np.ones(len(ticks), bool), observed=np.ones(len(ticks) + 1)),
        lambda ticks: tc.Outcome(np.ones(len(ticks), bool), limit="much"),
    ],
)
async def test_a_mask_of_wrong_shape_or_dtype_counts_as_raised(answer):
    rules = tc.RuleSet("shape")
    rules.check(reason="no", name="odd")(answer)
    verdicts, _ = await judged(rules, ticks_of([1.0, 2.0, 3.0]))
    assert verdicts.status.tolist() == [INVALID] * 3
    assert all(text.startswith("Processing error: odd: ") for text in said(verdicts))
    assert len(set(said(verdicts))) == 1  # whatever the batch, it is said of the tick alone


@pytest.mark.parametrize("answer", [lambda ticks: ticks.price.astype(str), lambda ticks: 1.0])
async def test_an_enrichment_of_wrong_shape_or_dtype_counts_as_raised(answer):
    rules = tc.RuleSet("shape")
    rules.enrich("odd")(answer)
    verdicts, _ = await judged(rules, ticks_of([1.0, 2.0]))
    assert verdicts.status.tolist() == [INVALID] * 2


async def test_writing_to_the_ticks_counts_as_raised_and_changes_nothing():
    rules = tc.RuleSet("writes")

    @rules.check(reason="no")
    def writes(ticks):
        ticks.price[:] = 0
        return np.ones(len(ticks), bool)

    price = np.array([1.0, 2.0])
    verdicts, _ = await judged(rules, ticks_of(price))
    assert verdicts.status.tolist() == [INVALID] * 2
    assert price.tolist() == [1.0, 2.0]


async def test_even_the_end_of_the_process_is_a_raise():
    rules = tc.RuleSet("exits")
    rules.check(reason="no", name="leaves")(lambda ticks: sys.exit("bye"))
    verdicts, _ = await judged(rules, ticks_of([1.0]))
    assert said(verdicts) == ["Processing error: leaves: SystemExit: bye"]


async def test_messages_are_one_line_and_bounded():
    rules = tc.RuleSet("message")

    @rules.check_each
    def wordy(tick):
        raise ValueError("a\nb\ud800" + "x" * 10_000)

    verdicts, _ = await judged(rules, ticks_of([1.0]))
    text = said(verdicts)[0]
    assert text.startswith("Processing error: wordy: a b?xxx")
    assert len(text) < 600
    text.encode()


async def test_a_slow_rule_that_raises_on_everything_does_not_search_for_ever():
    rules = tc.RuleSet("slow")

    @rules.check(reason="no")
    def slow(ticks):
        time.sleep(0.01)
        raise ValueError("always")

    began = time.monotonic()
    verdicts, _ = await judged(rules, ticks_of(np.ones(500)), deadline_s=0.2)
    assert time.monotonic() - began < 2.0  # all of the search would take 10 s
    assert set(said(verdicts)) == {"Processing error: slow: always"}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_per_tick_rules_answer_none_or_a_reason(asynchronous):
    rules = tc.RuleSet("each")

    def answer(tick):
        return {1.0: None, 2.0: "no twos", 3.0: True, 4.0: ""}[tick.price]

    async def answer_later(tick):
        await asyncio.sleep(0.001 * tick.price)
        return answer(tick)

    rules.check_each(answer_later if asynchronous else answer, name="known")
    verdicts, state = await judged(rules, ticks_of([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert said(verdicts) == [
        None,
        "no twos",
        "Processing error: known: expected None or a reason, was True",
        "Processing error: known: expected None or a reason, was ''",
        "Processing error: known: 5.0",
    ]
    assert verdicts.is_text[verdicts.reason[1]]
    assert state.rules[0].raised == 3
    assert state.rules[0].rows == 5


async def test_a_plain_function_that_returns_an_awaitable_is_told_what_to_do():
    async def later():
        return None

    rules = tc.RuleSet("hidden")
    rules.check_each(lambda tick: later(), name="hidden")
    rules.check_each(lambda tick: later(), name="shown", asynchronous=True)
    verdicts, _ = await judged(rules, ticks_of([1.0]))
    assert "asynchronous=True" in said(verdicts)[0]


class Status(enum.Enum):
    VALID = "ok"
    INVALID = "bad"


class Numbered(enum.IntEnum):
    GOOD = 1
    BAD = 2


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"status": "VALID", "score": 3}, VALID, None),
        ({"status": "INVALID", "reason": "stale"}, INVALID, "stale"),
        ({"status": 2}, INVALID, "Rejected by engine"),
        (SimpleNamespace(status=Status.VALID, score=1.5, reason="fine"), VALID, None),
        (SimpleNamespace(status=Status.INVALID, reason="late"), INVALID, "late"),
        (SimpleNamespace(status=Numbered.GOOD), VALID, None),
        ({"status": "UNKNOWN", "reason": "no data"}, UNKNOWN, "no data"),
        (None, INVALID, "Processing error: engine: status must be VALID or INVALID, was None"),
        ({"status": True}, INVALID, "Processing error: engine: status must be VALID or INVALID, was True"),
        ({"status": ["VALID"]}, INVALID, "Processing error: engine: status must be VALID or INVALID, was ['VALID']"),
        (
            {"status": 1, "score": "high"},
            INVALID,
            "Processing error: engine: could not convert string to float: 'high'",
        ),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_adopted_functions_answer_with_any_object_or_mapping(answer, status, reason, asynchronous):
    async def later(tick):
        return answer

    rules = tc.RuleSet("adopted")
    rules.adopt(later if asynchronous else lambda tick: answer, name="engine", enrich=["score"], vwap_as="their_vwap")
    verdicts, _ = await judged(rules, ticks_of([1.0]))
    assert verdicts.status.tolist() == [status]
    assert said(verdicts) == [reason]
    score = answer.get("score") if isinstance(answer, dict) else getattr(answer, "score", None)
    expected = np.nan if status != VALID or score is None else score
    np.testing.assert_array_equal(verdicts.enrichments, [[expected], [np.nan]])


async def test_awaits_run_concurrently_within_the_bound_and_batches_overlap():
    rules = tc.RuleSet("wide")
    under_way, most = 0, 0

    @rules.check_each
    async def waits(tick):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    await judged(rules, ticks_of(np.ones(300)), concurrency=50)
    assert most == 50
    most = 0
    await judged(rules, *[ticks_of(np.ones(40))] * 4, concurrency=50)
    assert most == 160


async def test_rules_with_state_see_the_batches_in_order_even_after_an_await():
    rules = tc.RuleSet("state")
    seen = []

    @rules.check_each
    async def waits(tick):
        await asyncio.sleep(0.02 if tick.price < 10 else 0.0)  # the first batch is the last to come back

    @rules.check(reason="no")
    def counts(ticks):
        seen.extend(ticks.price.tolist())
        return np.ones(len(ticks), bool)

    rules.check_each(waits, name="waits again")
    rules.check_each(name="counts too")(lambda tick: seen.append(-tick.price))
    await judged(rules, *(ticks_of(np.array([1.0, 2.0]) * factor) for factor in (1, 10, 100)))
    assert [price for price in seen if price > 0] == [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]
    assert [-price for price in seen if price < 0] == [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]


@pytest.mark.parametrize(("policy", "status"), [("fail-closed", INVALID), ("fail-open", UNKNOWN)])
async def test_an_await_past_its_deadline_is_cut_off_and_opens_the_breaker(policy, status):
    rules = tc.RuleSet("stuck")
    cancelled = []

    @rules.check_each
    async def stuck(tick):
        if tick.instrument_id == "BBB":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(tick)
                await asyncio.Event().wait()  # and doesn't let go

    began = time.monotonic()
    verdicts, state = await judged(rules, ticks_of(np.ones(400)), policy=policy, deadline_s=0.1, concurrency=30)
    assert time.monotonic() - began < 0.5
    assert verdicts.status[:4].tolist() == [VALID, status, VALID, VALID]
    assert set(said(verdicts)) == {None, "Rule unavailable: stuck"}
    assert not verdicts.is_text[verdicts.reason[1]]
    assert 1 <= len(cancelled) <= 30
    assert state.counters.timeouts == 1
    assert state.counters.unavailable == 100
    assert [(b.rule, b.instrument, b.state) for b in state.breakers] == [("stuck", "BBB", "open")]


async def test_a_busy_loop_cuts_nothing_off():
    rules = tc.RuleSet("busy")

    @rules.check_each
    async def busy(tick):
        await asyncio.sleep(0)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    # 300 ticks of 2 ms each share the loop: each takes 600 ms from beginning to end, none is stuck.
    verdicts, state = await judged(rules, ticks_of(np.ones(300)), deadline_s=0.2, concurrency=300)
    assert verdicts.status.tolist() == [VALID] * 300
    assert state.counters.timeouts == 0


async def test_a_breaker_closes_by_a_probe_once_the_rule_answers_again():
    rules = tc.RuleSet("recovers")
    stuck = True

    @rules.check_each
    async def sometimes(tick):
        if stuck:
            await asyncio.Event().wait()

    runner = make_runner(rules, None, workers=0, deadline_s=0.05)
    assert (await runner.submit(ticks_of([1.0]))).status.tolist() == [INVALID]
    stuck = False
    assert (await runner.submit(ticks_of([1.0]))).status.tolist() == [INVALID]  # not asked
    async with asyncio.timeout(10):
        while runner.state().breakers:
            await asyncio.sleep(0.01)
    assert (await runner.submit(ticks_of([1.0]))).status.tolist() == [VALID]
    assert runner.state().counters.probes == 1
    await runner.close()


async def test_batches_may_bring_instrument_lists_of_their_own():
    rules = tc.RuleSet("names")
    rules.check_each(lambda tick: None if tick.instrument_id[0] == "G" else tick.instrument_id, name="good")
    batches = [
        tc.Ticks([1.0, 1.0], [1, 1], [1, 1], np.array([0, 1], np.int32), names)
        for names in (["GOOD", "EVIL"], ["EVIL", "GOOD"], ["WORSE", "GREAT"])
    ]
    verdicts, _ = await judged(rules, *batches)
    assert [said(each) for each in verdicts] == [[None, "EVIL"], ["EVIL", None], ["WORSE", None]]


async def test_no_rules_call_everything_valid():
    runner = make_runner(None, None, workers=1)
    await runner.start()
    verdicts = await runner.submit(ticks_of([1.0, 2.0]))
    assert verdicts.status.tolist() == [VALID, VALID]
    assert verdicts.enrichments.shape == (0, 2)
    assert runner.state().rule_set == ""
    await runner.close()


@pytest.mark.parametrize("wrong", [{"policy": "maybe"}, {"workers": -1}, {"deadline_s": 0.0}, {"concurrency": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(RuleError):
        make_runner(tc.RuleSet("x"), None, **wrong)


def test_workers_need_a_name_to_import_the_rules_by():
    with pytest.raises(RuleError, match="by name"):
        make_runner(tc.RuleSet("anonymous"), None, workers=1)
