"""Rules that remember: whoever takes over shows them what they looked back on, and they say what they would have."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.kafka import KafkaServer
from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import as_proto, make_ticks
from tickcast._core import TapeReader
from tickcast.errors import TapeError

RULES = """
from bisect import bisect, insort
from collections import defaultdict

import numpy as np

import tickcast as tc

rules = tc.RuleSet("memory", version="1")
HOUR_NS = 3_600_000_000_000
seen = defaultdict(list)


@rules.enrich("seen_hour", lookback="65m")
def seen_hour(ticks):
    counts = np.empty(len(ticks))
    for row, (code, time_ns) in enumerate(zip(ticks.instrument, ticks.timestamp_ns)):
        times = seen[ticks.instruments[code]]
        insort(times, int(time_ns))
        counts[row] = bisect(times, time_ns) - bisect(times, time_ns - HOUR_NS)
    return counts
"""
TICKS = make_ticks(9000, instruments=12)
CUT, STEP = 7500, 1500


class Desk:
    """A processor with rules that remember an hour, while windows hold 20 minutes only."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        (folder / "memory.py").write_text(RULES)
        self._programs, self._folder = programs, folder
        self.run_dir = folder / "run"

    def start(self, source: str, trades: str) -> Program:
        flags = ("--source", source, "--rules", "memory:rules", "--sink", f"jsonl:{self._folder / trades}")
        settings = ("--set", "tape.bytes=64MiB", "--set", "window.hold=20m", "--set", "grpc.port=0")
        return self._programs.tickcast("process", *flags, "--run-dir", str(self.run_dir), *settings, cwd=self._folder)

    def wait_for_board(self, count: int) -> None:
        """Wait until the status board shows so many ticks: then it has been looked at what windows and rules need."""

        def shown() -> bool:
            with contextlib.suppress(OSError, TapeError):
                board = json.loads(TapeReader.open(self.run_dir).board() or b"{}")
                return board.get("counters", {}).get("ticks") == count
            return False

        wait_until(shown, f"{count} ticks on the board")

    def wait_for(self, count: int, *files: str) -> dict[str, str]:
        """Wait until there are so many trades; return them by id."""

        def found() -> dict[str, str]:
            paths = [self._folder / name for name in files]
            lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
            whole = [line for line in lines if line.endswith("}")]
            return {json.loads(line)["tradeId"]: line for line in whole}

        return wait_until(lambda: trades if len(trades := found()) == count else None, f"{count} trades")


async def check(desk: Desk, source: Callable[[str], str], publish: Callable[[list], None], *, keeps_tape: bool) -> None:
    program = desk.start(source("desk"), "first.jsonl")
    for at in range(0, CUT, STEP):
        await asyncio.to_thread(publish, TICKS[at : at + STEP])
        await asyncio.to_thread(desk.wait_for_board, at + STEP)
    await asyncio.to_thread(desk.wait_for, CUT, "first.jsonl")
    assert program.end() == 0
    if not keeps_tape:
        shutil.rmtree(desk.run_dir)
    await asyncio.to_thread(publish, TICKS[CUT:])
    program = desk.start(source("desk"), "second.jsonl")
    trades = await asyncio.to_thread(desk.wait_for, len(TICKS), "first.jsonl", "second.jsonl")
    assert program.end() == 0
    shutil.rmtree(desk.run_dir)
    program = desk.start(source("undisturbed"), "undisturbed.jsonl")
    expected = await asyncio.to_thread(desk.wait_for, len(TICKS), "undisturbed.jsonl")
    assert program.end() == 0
    assert trades == expected
    assert max(json.loads(line).get("seen_hour", 0) for line in trades.values()) > 50


@pytest.mark.kafka
async def test_a_processor_that_takes_over_on_kafka_shows_the_rules_what_they_remember(
    kafka_server: KafkaServer, programs: Programs, tmp_path: Path
) -> None:
    from fixtures.topics import Publisher

    kafka_server.create_topic("memory", 3)
    publisher = Publisher(kafka_server.address, "memory")

    def source(group: str) -> str:
        return f"kafka://{kafka_server.address}/memory?group={group}&instance={group}"

    await check(Desk(programs, tmp_path), source, publisher.publish, keeps_tape=False)


@pytest.mark.nats
@pytest.mark.parametrize("keeps_tape", [True, False], ids=["tape", "no-tape"])
async def test_a_processor_that_takes_over_on_jetstream_shows_the_rules_what_they_remember(
    nats_server: NatsServer, programs: Programs, tmp_path: Path, keeps_tape: bool
) -> None:
    from tickcast._core import NatsPublisher

    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    await client.close()
    publisher = NatsPublisher(nats_server.url, "ticks", stream="TICKS")

    def publish(ticks: list) -> None:
        publisher.publish([as_proto(tick) for tick in ticks], timeout=30.0)
        publisher.flush(30.0)

    def source(durable: str) -> str:
        return f"jetstream://{nats_server.url.removeprefix('nats://')}/ticks?durable={durable}"

    await check(Desk(programs, tmp_path), source, publish, keeps_tape=keeps_tape)
    publisher.close()
