"""Pauses and the circuit breaker between attempts to reconnect."""

from hypothesis import given
from hypothesis import strategies as st

from tickcast.retry import Limits, Reconnect

LIMITS = Limits(first_s=0.1, longest_s=2.0, failures=5, open_s=3.0, longest_open_s=30.0)


class Slept:
    """A clock that only notes how long somebody wanted to wait."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)


def reconnect(chance: float = 1.0) -> tuple[Reconnect, Slept]:
    slept = Slept()
    return Reconnect(LIMITS, sleep=slept, chance=lambda: chance), slept


async def test_pauses_double_until_the_breaker_opens_and_probes_follow() -> None:
    link, slept = reconnect()
    states = []
    for _ in range(8):
        link.failed()
        states.append(link.state)
        await link.pause()
    assert slept.pauses == [0.1, 0.2, 0.4, 0.8, 3.0, 6.0, 12.0, 24.0]
    assert states == ["closed"] * 4 + ["open"] * 4
    assert link.state == "half-open"


async def test_probe_that_works_closes_the_breaker_and_one_that_fails_opens_it_at_once() -> None:
    link, slept = reconnect()
    for _ in range(5):
        link.failed()
    await link.pause()
    assert link.state == "half-open"
    link.failed()
    assert link.state == "open"
    await link.pause()
    link.worked()
    assert (link.state, link.failures) == ("closed", 0)
    link.failed()
    assert link.state == "closed"
    await link.pause()
    assert slept.pauses[-1] == 0.1


async def test_server_that_asks_for_a_pause_gets_it() -> None:
    link, slept = reconnect(chance=0.0)
    link.failed()
    await link.pause(1.5)
    assert slept.pauses == [1.5]


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_pauses_stay_within_their_bounds_however_long_it_takes(failures: int, chance: float) -> None:
    link, _ = reconnect(chance)
    for _ in range(failures):
        link.failed()
    pause = link.next_pause_s()
    if link.state == "closed":
        assert 0 <= pause <= min(LIMITS.longest_s, LIMITS.first_s * 2 ** (failures - 1))
    else:
        assert LIMITS.open_s / 2 <= pause <= LIMITS.longest_open_s
