"""Rules in shadow: asked like any other, counted, and without a say."""

import asyncio

import numpy as np
import pytest
from test_rule_judging import judged, said, ticks_of

import tickcast as tc
from tickcast.errors import RuleError
from tickcast.rules import VALID, make_runner

PRICES = [1.0, 2.0, 3.0, 4.0]


def figures(state):
    return {rule.name: (rule.mode, rule.rows, rule.rejects, rule.raised) for rule in state.rules}


async def test_a_check_in_shadow_is_counted_and_the_ticks_go_on_to_later_rules():
    rules = tc.RuleSet("shadow")
    seen = []
    rules.check(reason="too low", name="low", shadow=True)(lambda ticks: tc.Outcome(ticks.price >= 3, ticks.price, 3.0))
    rules.check(reason="too high", name="high")(lambda ticks: seen.append(len(ticks)) or ticks.price <= 3)
    verdicts, state = await judged(rules, ticks_of(PRICES))
    assert said(verdicts) == [None, None, None, "too high"]
    assert verdicts.rule.tolist() == [0, 0, 0, 2]
    assert np.isnan(verdicts.observed[:2]).all()
    assert seen == [4]
    assert figures(state) == {"low": ("shadow", 4, 2, 0), "high": ("live", 4, 1, 0)}


async def test_a_rule_in_shadow_sees_only_what_the_rules_before_it_let_pass():
    rules = tc.RuleSet("order")
    rules.check(reason="too low", name="low")(lambda ticks: ticks.price >= 3)
    rules.check(reason="none", name="none", shadow=True)(lambda ticks: ticks.price < 0)
    _, state = await judged(rules, ticks_of(PRICES))
    assert figures(state) == {"low": ("live", 4, 2, 0), "none": ("shadow", 2, 2, 0)}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_per_tick_rules_in_shadow_may_refuse_and_raise(asynchronous):
    def judge(tick):
        if tick.price == 4.0:
            raise ValueError("four")
        return "odd" if tick.price % 2 else None

    async def judge_later(tick):
        await asyncio.sleep(0)
        return judge(tick)

    rules = tc.RuleSet("each")
    rules.check_each(judge_later if asynchronous else judge, name="each", shadow=True)
    verdicts, state = await judged(rules, ticks_of(PRICES))
    assert verdicts.status.tolist() == [VALID] * 4
    assert verdicts.reasons == ["", "Rejected by each", "Rule unavailable: each"]
    assert figures(state) == {"each": ("shadow", 4, 3, 1)}


async def test_a_rule_over_columns_in_shadow_that_raises_spoils_nothing():
    def broken(ticks):
        if (ticks.price == 3).any():
            raise ValueError("three")
        return np.ones(len(ticks), bool)

    rules = tc.RuleSet("raises")
    rules.check(reason="no", shadow=True)(broken)
    verdicts, state = await judged(rules, ticks_of(PRICES))
    assert verdicts.status.tolist() == [VALID] * 4
    assert figures(state)["broken"][2:] == (1, 1)


async def test_an_adopted_function_in_shadow_refuses_nothing_and_adds_nothing():
    rules = tc.RuleSet("adopted")
    rules.adopt(lambda tick: {"status": 0 if tick.price > 3 else 1}, name="library", shadow=True)
    verdicts, state = await judged(rules, ticks_of(PRICES))
    assert verdicts.status.tolist() == [VALID] * 4
    assert figures(state)["library"][2] == 1
    with pytest.raises(RuleError, match="in shadow, so it can give no enrichments"):
        rules.adopt(print, enrich=["score"], shadow=True)


async def test_an_await_that_is_cut_off_in_shadow_is_missed_by_nobody():
    rules = tc.RuleSet("late")
    asked = []

    async def late(tick):
        asked.append(tick.price)
        await asyncio.sleep(3600)

    rules.check_each(late, shadow=True)
    first, second = ticks_of(PRICES[:1]), ticks_of([5.0, 6.0])
    runner = make_runner(rules, None, workers=0, deadline_s=0.05)
    await runner.start()
    try:
        assert (await runner.submit(first)).status.tolist() == [VALID]
        assert [breaker.rule for breaker in runner.state().breakers] == ["late"]
        # The first instrument is not asked about any more, and its ticks stand all the same.
        assert (await runner.submit(second)).status.tolist() == [VALID] * 2
        assert asked == [1.0, 6.0]
    finally:
        await runner.close()


def test_shadow_is_part_of_what_a_set_declares():
    def check(ticks):
        return ticks.price > 0

    sets = []
    for shadow in (False, True):
        rules = tc.RuleSet("desk", version="1")
        rules.check(reason="no", shadow=shadow)(check)
        sets.append(rules.declaration())
    assert sets[0] != sets[1]
    assert sets[1].shadow == {1}
