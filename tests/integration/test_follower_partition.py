"""A gateway follows a processor on another machine over a wire that is cut, slow and lossy: nothing missing or doubled.

The machines are network namespaces, the partition is real: packets are dropped both ways, nobody is told. Delay, jitter
and loss are not made by `tc netem`, which many kernels come without (`CONFIG_NET_SCH_NETEM` is not set), but by the
wire of `fixtures/wire.py` that carries every packet between the namespaces: the same everywhere, nothing is skipped.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.processes import Program, Programs, wait_until
from fixtures.wire import FAR, Wire, wire
from tickcast._core import TapeReader

__all__ = ["wire"]

PORT = 50_051
RATE = 2_000


class Machines:
    """A processor far away and a gateway here that follows it."""

    def __init__(self, programs: Programs, wire: Wire, folder: Path) -> None:
        self._programs = programs
        self._wire = wire
        self.far_dir, self.near_dir = folder / "far", folder / "near"
        self.processor = self.start_processor()
        self.processor.expect("ready")
        self.gateway = self._start(wire.near, "gateway", "--source", f"grpc://{FAR}:{PORT}", run_dir=self.near_dir)
        self.gateway.expect("ready")
        programs.adopt_children(self.near_dir)

    def start_processor(self) -> Program:
        where = ("--grpc-host", FAR, "--grpc-port", str(PORT), "--set", "web.insecure_public=true")
        source = f"sim://?rate={RATE}&instruments=20"
        return self._start(self._wire.far, "process", "--source", source, *where, run_dir=self.far_dir)

    def _start(self, side: str, command: str, *options: str, run_dir: Path) -> Program:
        import sys

        words = [*self._wire.enter(side), sys.executable, "-m", "tickcast", command, *options]
        words += ["--run-dir", str(run_dir), "--set", "tape.bytes=64MiB"]
        if command == "gateway":
            words += ["--port", "0", "--grpc-port", "0"]
        return self._programs.start(*words)

    def board(self) -> dict:
        return json.loads(TapeReader.open(self.near_dir).board() or b"{}")

    def state(self) -> str:
        return self.board()["source"]["state"]

    def heads(self) -> tuple[int, int]:
        return TapeReader.open(self.far_dir).head, TapeReader.open(self.near_dir).head

    def until_caught_up(self, beyond: int = 0) -> None:
        """Wait until the follower has what the processor has now, and that is more than `beyond`."""
        wait_until(lambda: self.heads()[0] > beyond, "the processor goes on")
        head = self.heads()[0]
        wait_until(lambda: self.heads()[1] >= head, f"the follower has {head}")

    def assert_same(self) -> int:
        """Compare the tapes trade by trade; return how many."""
        far, near = TapeReader.open(self.far_dir), TapeReader.open(self.near_dir)
        assert near.epoch == far.epoch
        head = near.head
        missing, doubled, seq, ids = 0, 0, 1, set()
        while seq <= head:
            ours, theirs = (json.loads(tape.trades(seq, min(10_000, head + 1 - seq))) for tape in (near, far))
            missing += ours["gap"] is not None
            assert ours["trades"] == theirs["trades"], f"differ from {seq} on"
            for trade in ours["trades"]:
                doubled += trade["tradeId"] in ids
                ids.add(trade["tradeId"])
            seq = ours["toSeq"] + 1
        assert (missing, doubled, len(ids)) == (0, 0, head)
        return head


@pytest.fixture
def machines(programs: Programs, wire: Wire, tmp_path: Path) -> Iterator[Machines]:
    made = Machines(programs, wire, tmp_path)
    yield made
    # In order, with its children, which have sessions of their own.
    assert made.gateway.end() == 0


def elapsed(what: Callable[[], object], name: str) -> float:
    start = time.monotonic()
    wait_until(what, name)
    return time.monotonic() - start


def test_partition_heals_without_a_trade_missing_or_doubled(machines: Machines, wire: Wire) -> None:
    machines.until_caught_up()
    wait_until(lambda: machines.state() == "live", "the link is live")
    for _ in range(2):
        before = machines.heads()[0]
        wire.cut = True
        # Nobody closes anything: only silence tells, and clients must know within ten seconds.
        assert elapsed(lambda: machines.state() == "stale", "clients are told that the link is down") < 10
        goal = before + RATE
        wait_until(lambda goal=goal: machines.heads()[0] > goal, "the processor went on meanwhile")
        assert machines.heads()[1] < machines.heads()[0]
        wire.cut = False
        wait_until(lambda: machines.state() == "live", "clients are told that the link is back")
        machines.until_caught_up(before)
    assert wire.dropped > 0
    assert machines.assert_same() > 2 * RATE
    assert machines.board()["counters"]["lost"] == 0


def test_slow_and_lossy_wire_delivers_everything(machines: Machines, wire: Wire) -> None:
    wire.delay_s, wire.jitter_s, wire.loss = 0.04, 0.01, 0.01
    before = machines.heads()[0]
    wait_until(lambda: machines.heads()[1] > before + 2 * RATE, "trades come through")
    wire.cut = True
    wait_until(lambda: machines.state() == "stale", "clients are told that the link is down")
    wire.cut = False
    wait_until(lambda: machines.state() == "live", "clients are told that the link is back")
    wire.delay_s, wire.jitter_s, wire.loss = 0.0, 0.0, 0.0
    machines.until_caught_up(before + 2 * RATE)
    assert wire.dropped > 0
    assert machines.assert_same() > 2 * RATE


def test_killed_processor_is_found_again(machines: Machines) -> None:
    machines.until_caught_up()
    epoch = TapeReader.open(machines.near_dir).epoch
    for _ in range(2):
        before = machines.heads()[0]
        machines.processor.kill()
        assert elapsed(lambda: machines.state() == "stale", "clients are told that the processor is away") < 10
        machines.processor = machines.start_processor()
        machines.processor.expect("ready")
        wait_until(lambda: machines.state() == "live", "clients are told that it is back")
        machines.until_caught_up(before + RATE)
    assert TapeReader.open(machines.near_dir).epoch == epoch
    assert machines.assert_same() > RATE
