"""A rule that never returns on one instrument: one stall, then the others go on as if nothing were."""

import asyncio

import pytest

from fixtures.follower import Follower
from fixtures.serving import Served, until

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]

RULES = """
import tickcast as tc

rules = tc.RuleSet("desk")

@rules.check(reason="never")
def fine(ticks):
    return ticks.price > 0

@rules.check(reason="never")
def hangs(ticks):
    while ticks.of("SLOW").any():
        pass
    return ticks.price > 0
"""


@pytest.mark.parametrize(("policy", "status"), [("fail-closed", "INVALID"), ("fail-open", "UNKNOWN")])
async def test_a_hanging_rule_costs_one_stall_and_its_own_instrument(stream, tmp_path, policy, status):
    (tmp_path / "desk.py").write_text(RULES)
    env = {"TICKCAST_JUDGE_POLICY": policy}
    with Served(tmp_path, "--source", stream.source, "--rules", "desk:rules", env=env) as served:
        async with Follower(served.address, snapshot=False) as follower, stream.publishing(1000):
            await follower.until(lambda: len(follower.trades) > 500, "trades before")

            async def slow_ones():
                while True:
                    await stream.publish(1, instrument="SLOW")
                    await asyncio.sleep(0.05)

            slow = asyncio.create_task(slow_ones())
            try:
                await until(
                    lambda: any(b["instrument"] == "SLOW" for b in served.board()["breakers"]),
                    "an open breaker",
                )
                seen = stream.published
                await follower.until(
                    lambda: max(follower.trades, default=0) > seen + 2000, "2,000 trades behind the open breaker"
                )
            finally:
                slow.cancel()
                await asyncio.gather(slow, return_exceptions=True)
            breaker = next(b for b in served.board()["breakers"] if b["instrument"] == "SLOW")
        assert breaker["rule"] == "hangs"
        await until(lambda: not follower.gaps, "no gaps")
    by_instrument = {}
    for trade in follower.trades.values():
        by_instrument.setdefault(trade["instrumentId"], []).append(trade)
    judged = by_instrument.pop("SLOW")
    assert {(t["status"], t["reason"]) for t in judged} == {(status, "Rule unavailable: hangs")}
    # Not one tick of the others was judged by policy.
    assert {t["status"] for trades in by_instrument.values() for t in trades} == {"VALID"}
