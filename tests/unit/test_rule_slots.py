"""Memory shared with a worker: what stands in a slot from the batch before is not said of the next."""

import os

import numpy as np
import pytest

import tickcast as tc
from tickcast.rules.judge import Judge
from tickcast.rules.run import Work
from tickcast.rules.slots import Slots
from tickcast.rules.verdicts import Verdicts
from tickcast.ticks import Ticks

ROWS = 8
COLUMNS = ("status", "rule", "reason", "observed", "limit", "enrichments")


@pytest.fixture
def rules():
    rules = tc.RuleSet("slots", version="1")

    @rules.check(reason="Too dear")
    def cheap(ticks):
        return tc.Outcome(ticks.price < 10, observed=ticks.price, limit=10.0)

    @rules.enrich("notional", unit="USD")
    def notional(ticks):
        return ticks.price * ticks.volume

    return rules


@pytest.fixture
def slots(rules):
    fd = os.memfd_create("slots")
    shared = Slots(fd, rules.declaration(), slots=2, rows=ROWS, create=True)
    yield shared
    shared.close()
    os.close(fd)


def judged_in(slots, rules, prices):
    """Judge a batch as a worker does, with its verdicts in the slot; return what the parent takes of it."""
    rows = len(prices)
    ticks = Ticks(prices, np.ones(rows, np.int64), np.arange(rows), np.zeros(rows, np.int32), ["AAA"])
    slots.put(0, ticks, slice(0, rows))
    judge = Judge(rules, deadline_s=1.0, fail_open=False, concurrency=1)
    judge.judge_now(Work(slots.get(0, rows, ["AAA"]), verdicts=slots.answer(0, rows))).finish()
    return slots.take_answer(0, rows)


@pytest.mark.parametrize("rows", [ROWS, 3])
def test_nothing_is_left_of_the_batch_before(slots, rules, rows):
    refused = judged_in(slots, rules, np.full(ROWS, 20.0))
    assert (refused.rule == 1).all()
    assert (refused.reason == 1).all()
    passed = judged_in(slots, rules, np.full(rows, 2.0))
    expected = Verdicts.blank(rows, rules.declaration())
    expected.enrichments[:] = 2.0
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(passed, column), getattr(expected, column))


def test_what_was_taken_stays_when_the_slot_holds_others(slots, rules):
    taken = judged_in(slots, rules, np.full(ROWS, 20.0))
    before = {column: getattr(taken, column).copy() for column in COLUMNS}
    judged_in(slots, rules, np.full(ROWS, 2.0))
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(taken, column), before[column])
