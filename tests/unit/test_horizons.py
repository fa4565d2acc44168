"""From where a log has to be read again so that the windows are as they were, against windows that never stopped."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.judged import Message, judge_messages
from tickcast._core import Judge

MINUTE_NS = 60_000_000_000
HOLD_NS = 4 * MINUTE_NS
APART = 1_000
"""Offsets between two messages: more than what is remembered as one stretch."""


def make_judge() -> Judge:
    judge = Judge(window_ns=2 * MINUTE_NS, hold_ns=HOLD_NS)
    judge.keep_horizons()
    return judge


def feed(judge: Judge, messages: list[Message]) -> list[bytes]:
    """Judge messages one by one as VALID; return the trades."""
    return [judge_messages(judge, [message]).json_lines([]) for message in messages]


TICK = st.tuples(st.sampled_from(["AAA", "BBB", "CCC"]), st.integers(1, 500), st.integers(0, 30), st.integers(0, 100))


@settings(max_examples=60, deadline=None)
@given(st.lists(TICK, min_size=2, max_size=250), st.floats(0, 1))
def test_reading_again_from_the_horizon_gives_the_same_trades(ticks: list, share: float) -> None:
    now_s, messages = 10_000, []
    for offset, (name, cents, step_s, late_s) in enumerate(ticks):
        now_s += step_s
        # Late by less than hold - window: what an instrument without news holds is out of reach then.
        time_ns = (now_s - late_s) * 1_000_000_000
        text = f'{{"instrumentId":"{name}","price":{cents / 100 + 1},"volume":1,"timestampNs":"{time_ns}"}}'
        messages.append(Message(offset * APART, text.encode()))
    cut = int(share * len(messages))
    whole = make_judge()
    feed(whole, messages[:cut])
    horizons = whole.horizons()
    lowest = -(-horizons[0][3] // APART) if horizons else 0
    assert lowest <= cut
    again = make_judge()
    feed(again, messages[lowest:cut])
    assert feed(again, messages[cut:]) == feed(whole, messages[cut:])


def test_what_no_window_holds_is_not_read_again() -> None:
    judge = make_judge()
    text = '{"instrumentId":"AAA","price":5,"volume":1,"timestampNs":"%d"}'
    feed(judge, [Message(n * APART, (text % (n * MINUTE_NS)).encode()) for n in range(1, 101)])
    ((stream, partition, following, lowest),) = judge.horizons()
    assert (stream, partition, following) == (1, 0, 100 * APART + 1)
    # The clock is the smallest of the last 64 times, 37 minutes, and four minutes behind it are held.
    assert lowest == 34 * APART
