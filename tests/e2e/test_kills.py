"""`kill -9` of every process in mid-stream: nothing missing, nothing doubled, nothing else falls."""

import os
import signal

import pytest

from fixtures.follower import Follower
from fixtures.processes import lives
from fixtures.serving import Served, children, until

RATE = 1000
RULES = "tickcast.examples.quantlib:fast"

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]


def processor(served):
    return served.processor_pid()


def rule_worker(served):
    return served.rule_workers()[0]


def gateway_worker(served):
    return served.gateway_workers()[0]


def supervisor(served):
    return served.process.pid


async def everything_arrived(follower, stream):
    await follower.until(lambda: len(follower.trades) >= stream.published, f"{stream.published} trades", 60)
    assert follower.volumes() == list(range(1, stream.published + 1))
    assert not follower.doubled
    assert not follower.gaps


@pytest.mark.parametrize("victim", [processor, rule_worker, gateway_worker, supervisor], ids=lambda v: v.__name__)
async def test_a_killed_process_costs_nobody_a_trade(victim, stream, tmp_path):
    served = Served(tmp_path, "--source", stream.source, "--rules", RULES)
    try:
        served.start()
        async with Follower(served.address, snapshot=False) as follower:
            others = {"processor": processor(served), "supervisor": supervisor(served), "gateway": served.gateway_pid()}
            async with stream.publishing(RATE):
                await follower.until(lambda: len(follower.trades) > RATE // 2, "trades before the kill")
                pid = victim(served)
                os.kill(pid, signal.SIGKILL)
                if victim is supervisor:
                    served.process.wait()
                    seen = len(follower.trades)
                    await follower.until(lambda: len(follower.trades) > seen + RATE // 4, "trades without a supervisor")
                    served.start()
                seen = stream.published
                await follower.until(
                    lambda: follower.trades and follower.volumes()[-1] > seen + RATE, "trades after the kill", 60
                )
            await everything_arrived(follower, stream)
            fallen = [name for name, other in others.items() if other != pid and not lives(other)]
            assert not fallen, f"fell as well:\n{served.log()}"
    finally:
        served.stop()


async def test_a_restarted_processor_keeps_epoch_sequences_and_windows(stream, tmp_path):
    with Served(tmp_path, "--source", stream.source, "--rules", RULES) as served:
        async with Follower(served.address, snapshot=False) as follower:
            await stream.publish(500, instrument="AAPL")
            await follower.until(lambda: len(follower.trades) == 500, "500 trades")
            epoch, pid = follower.epoch, processor(served)
            os.kill(pid, signal.SIGKILL)
            info = served.run_dir / "processor.json"
            await until(lambda: info.exists() and processor(served) != pid, "a new processor")
            await stream.publish(500, instrument="AAPL")
            await everything_arrived(follower, stream)
            assert follower.epoch == epoch
            # The windows came back too: the VWAP goes on over all thousand trades.
            pv = sum(float(t["price"]) * int(t["volume"]) for t in follower.trades.values())
            v = sum(int(t["volume"]) for t in follower.trades.values())
            assert follower.trades[1000]["vwap20m"] == pytest.approx(pv / v, rel=1e-12)


async def test_nothing_outlives_an_orderly_stop(stream, tmp_path):
    served = Served(tmp_path, "--source", stream.source, "--rules", RULES).start()
    pids = {served.processor_pid(), served.gateway_pid(), *served.rule_workers(), *served.gateway_workers()}
    pids |= set(children(served.processor_pid()))
    served.process.terminate()
    assert served.process.wait(20) == 0
    await until(lambda: not any(lives(pid) for pid in pids), "end of all processes")
