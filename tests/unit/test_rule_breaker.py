"""Breakers on a clock of their own."""

import numpy as np
import pytest

import tickcast as tc
from tickcast.rules.breaker import FIRST_BACKOFF_S, LAST_BACKOFF_S, Breakers

SAMPLE = tc.Ticks([1.0], [1], [1], np.zeros(1, np.int32), ["AAA"])


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breakers(clock):
    return Breakers(clock)


def trip(breakers, rule, code):
    breaker = breakers.trip(rule, code, "hang")
    breaker.sample = SAMPLE
    return breaker


def test_the_first_failure_blocks_the_rule_for_that_instrument_alone(breakers):
    trip(breakers, 2, 7)
    assert breakers.blocked == {2: frozenset({7})}
    assert [(b.rule, b.code, b.state) for b in breakers.not_closed()] == [(2, 7, "open")]


def test_five_instruments_within_ten_seconds_block_the_whole_rule(breakers, clock):
    for code in range(4):
        trip(breakers, 1, code)
        clock.now_s += 2
    assert breakers.blocked[1] is not None
    trip(breakers, 1, 4)
    assert breakers.blocked == {1: None}


def test_five_instruments_over_more_time_do_not(breakers, clock):
    for code in range(8):
        trip(breakers, 1, code)
        clock.now_s += 2.6
    assert breakers.blocked == {1: frozenset(range(8))}


def test_one_instrument_failing_often_does_not_block_the_rule(breakers):
    for _ in range(20):
        trip(breakers, 1, 0)
    assert breakers.blocked == {1: frozenset({0})}


def test_back_off_doubles_up_to_a_minute_while_probes_fail(breakers, clock):
    trip(breakers, 1, 0)
    waits = []
    for _ in range(9):
        assert breakers.begin_probe() is None
        waits.append(breakers.next_due_s() - clock.now_s)
        clock.now_s = breakers.next_due_s()
        probed = breakers.begin_probe()
        assert probed.state == "half-open"
        assert breakers.blocked == {1: frozenset({0})}  # a probe is no reason to let ticks through
        breakers.end_probe(probed, "still hangs")
    assert waits[:3] == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S]
    assert waits[-1] == LAST_BACKOFF_S


def test_a_probe_that_comes_back_closes_the_breaker(breakers, clock):
    trip(breakers, 1, 0)
    clock.now_s += FIRST_BACKOFF_S
    breakers.end_probe(breakers.begin_probe(), None)
    assert breakers.blocked == {}
    assert breakers.not_closed() == []
    assert breakers.next_due_s() is None


def test_a_breaker_that_opens_again_soon_goes_on_with_its_back_off(breakers, clock):
    trip(breakers, 1, 0)
    clock.now_s += FIRST_BACKOFF_S
    breakers.end_probe(breakers.begin_probe(), None)
    trip(breakers, 1, 0)
    assert breakers.next_due_s() - clock.now_s == 2 * FIRST_BACKOFF_S
    clock.now_s = breakers.next_due_s()
    breakers.end_probe(breakers.begin_probe(), None)
    clock.now_s += 1_000
    breakers.begin_probe()  # forgets what is long past
    trip(breakers, 1, 0)
    assert breakers.next_due_s() - clock.now_s == FIRST_BACKOFF_S


def test_the_breaker_of_a_whole_rule_closes_apart_from_those_of_its_instruments(breakers, clock):
    for code in range(5):
        trip(breakers, 1, code)
    whole = breakers.find(1, None)
    whole.sample = SAMPLE
    whole.due_s = clock.now_s
    assert breakers.begin_probe() is whole
    breakers.end_probe(whole, None)
    assert breakers.blocked == {1: frozenset(range(5))}
