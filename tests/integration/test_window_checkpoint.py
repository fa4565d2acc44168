"""`kill -9` of a processor whose source keeps nothing: its VWAP goes on, from the checkpoint on disk and the tape."""

import asyncio
import json
import time
from fractions import Fraction
from pathlib import Path

import nats
import pytest

from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs
from fixtures.serving import until
from fixtures.ticks import as_batch
from tickcast._core import TapeReader

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

START_NS = 1_700_000_000_000_000_000
Tick = tuple[str, float, int, int]


class Fed:
    """A processor over core NATS, with a tape that holds a fraction of what its windows do."""

    def __init__(self, server: NatsServer, programs: Programs, run_dir: Path) -> None:
        self.run_dir, self._programs = run_dir, programs
        self._source = f"{server.url}/ticks?format=proto-batch"
        self._server = server
        self.sent: list[Tick] = []
        self.program: Program | None = None

    async def start(self) -> Program:
        small = ("--set", "tape.bytes=5MiB", "--set", "tape.max_instruments=64")
        flags = ("--source", self._source, "--run-dir", str(self.run_dir), *small, "--set", "window.checkpoint=200ms")
        self.program = self._programs.tickcast("process", *flags)
        await asyncio.to_thread(self.program.expect, "ready")
        await until(lambda: self.board()["source"]["state"] == "live", "the subscription")
        return self.program

    async def publish(self, count: int) -> None:
        """Publish so many further ticks, and wait until they are judged."""
        head = self.tape.head
        fresh = []
        for row in range(len(self.sent), len(self.sent) + count):
            price = 100 + (row * 7919 % 1000) / 64
            fresh.append((f"SYM{row % 3}", price, 1 + row % 97, START_NS + row * 20_000_000))
        client = await nats.connect(self._server.url)
        for at in range(0, count, 500):
            await client.publish("ticks", as_batch(fresh[at : at + 500]))
        await client.flush()
        await client.close()
        self.sent += fresh
        await until(lambda: self.tape.head == head + count, f"{count} further trades")

    async def checkpoint(self) -> None:
        """Wait for a checkpoint that was begun after now."""
        now = time.time()

        def written() -> bool:
            age_s = self.board()["window"]["checkpoint"]["ageS"]
            return age_s is not None and self.board()["heartbeatNs"] / 1e9 - age_s > now

        await until(written, "a checkpoint")

    @property
    def tape(self) -> TapeReader:
        return TapeReader.open(self.run_dir)

    def board(self) -> dict:
        return json.loads(self.tape.board())

    def vwaps(self, last: int) -> dict[str, float]:
        """Return the VWAP of each of the newest trades, by instrument."""
        trades = json.loads(self.tape.trades(self.tape.head - last + 1, last))["trades"]
        return {trade["instrumentId"]: trade["vwap20m"] for trade in trades}

    def exact(self) -> dict[str, float]:
        """Return what they have to be: all of it lies within 20 minutes."""
        found = {}
        for name in ("SYM0", "SYM1", "SYM2"):
            mine = [(Fraction(price), volume) for i, price, volume, _ in self.sent if i == name]
            found[name] = float(sum(price * volume for price, volume in mine) / sum(volume for _, volume in mine))
        return found


@pytest.fixture
def fed(nats_server: NatsServer, programs: Programs, run_dir: Path) -> Fed:
    return Fed(nats_server, programs, run_dir)


async def test_vwap_goes_on_after_a_kill_from_checkpoint_and_tape(fed: Fed) -> None:
    first = await fed.start()
    await fed.publish(40_000)
    await fed.checkpoint()
    await fed.publish(700)
    assert fed.tape.oldest > 10_000, "the tape alone must not be enough"
    assert first.end(9) == -9
    program = await fed.start()
    await fed.publish(3)
    assert fed.vwaps(3) == fed.exact()
    restored = fed.board()["window"]["restored"]
    assert restored["fromCheckpoint"] >= 40_000
    assert restored["fromCheckpoint"] + restored["fromTape"] == 40_700
    assert restored["missing"] == 0
    assert restored["ageS"] > 0
    assert any("ticks back in the windows from the checkpoint of" in line for line in program.errors)
    # An orderly end writes a last one.
    assert program.end() == 0
    await fed.start()
    assert fed.board()["window"]["restored"]["fromCheckpoint"] == 40_703
    await fed.publish(3)
    assert fed.vwaps(3) == fed.exact()


async def test_a_lost_tape_leaves_the_checkpoint_and_what_is_missing_is_told(fed: Fed) -> None:
    first = await fed.start()
    await fed.publish(3000)
    await fed.checkpoint()
    assert first.end(9) == -9
    (fed.run_dir / "tape").unlink()
    program = await fed.start()
    restored = fed.board()["window"]["restored"]
    assert (restored["fromCheckpoint"], restored["fromTape"], restored["missing"]) == (3000, 0, None)
    await fed.publish(3)
    assert fed.vwaps(3) == fed.exact()
    assert any("the tape is another one" in line for line in program.errors)


async def test_a_damaged_checkpoint_is_told_and_the_tape_has_to_do(fed: Fed) -> None:
    first = await fed.start()
    await fed.publish(1500)
    await fed.checkpoint()
    assert first.end() == 0
    path = fed.run_dir / "windows.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(50) + whole[-50:])
    program = await fed.start()
    restored = fed.board()["window"]["restored"]
    assert "checksum" in restored["trouble"]
    assert restored["fromTape"] == 1500
    await fed.publish(3)
    assert fed.vwaps(3) == fed.exact()
    assert any("is no checkpoint to go on from" in line for line in program.errors)
