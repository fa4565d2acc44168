"""The stand-in for a quant library computes what it says it does."""

import asyncio
import math

import numpy as np

import tickcast as tc
from tickcast.examples.quantlib import QuantLibrary, fast, rules
from tickcast.rules import INVALID, VALID, make_runner


def ticks_at(prices, vwap=100.0, volume=1):
    rows = len(prices)
    codes = np.zeros(rows, np.int32)
    return tc.Ticks(prices, np.full(rows, volume), np.arange(rows), codes, ["AAPL"], np.full(rows, vwap))


def test_the_tail_probability_agrees_with_erfc():
    library = QuantLibrary(annual_volatility=4.0)
    prices = 100.0 * np.exp(np.linspace(-0.2, 0.2, 401))
    outcome = library.plausible(ticks_at(prices))
    spread = 4.0 * math.sqrt(20 / (365 * 24 * 60))
    exact = np.array([math.erfc(abs(math.log(price / 100.0)) / spread / math.sqrt(2)) for price in prices])
    np.testing.assert_allclose(outcome.observed, exact, rtol=1e-3)
    assert (outcome.passed == (outcome.observed >= outcome.limit)).all()
    assert outcome.passed[200]
    assert not outcome.passed[0]


def test_the_first_tick_of_an_instrument_is_plausible():
    assert QuantLibrary().plausible(ticks_at([5.0], vwap=math.nan)).passed.all()


def test_the_look_up_takes_the_time_it_says():
    library = QuantLibrary(lookup_s=0.010)
    tick = next(ticks_at([100.0]).each())

    async def timed():
        loop = asyncio.get_running_loop()
        began = loop.time()
        assessment = await library.validate_and_enrich(tick)
        return assessment, loop.time() - began

    assessment, took_s = asyncio.run(timed())
    assert assessment.status == "VALID"
    assert 0 < assessment.limit_used < 1
    assert took_s > 0.009


async def test_both_rule_sets_judge():
    for rule_set, columns in ((rules, 2), (fast, 1)):
        runner = make_runner(rule_set, None, workers=0)
        verdicts = await runner.submit(ticks_at([100.0, 200.0, 101.0], volume=10))
        assert verdicts.status.tolist() == [VALID, INVALID, VALID]
        assert verdicts.reason_of(1) == "Implausibly far from the 20-minute VWAP"
        assert verdicts.enrichments.shape == (columns, 3)
        assert verdicts.enrichments[-1, 0] == 1_000.0
        await runner.close()


async def test_a_tick_above_the_limit_is_rejected_by_the_library():
    runner = make_runner(rules, None, workers=0)
    verdicts = await runner.submit(ticks_at([100.0], volume=10_000_000))
    assert verdicts.status.tolist() == [INVALID]
    assert verdicts.reason_of(0).startswith("Notional above the limit of ")
    await runner.close()
