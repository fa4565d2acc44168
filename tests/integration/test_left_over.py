"""Trades that wait for a sink on a tape that is not gone on with: they don't vanish without a word."""

import asyncio
import contextlib
import json
from pathlib import Path

import nats
import pytest

from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import as_json, make_ticks
from tickcast._core import TapeReader
from tickcast.errors import TapeError

pytestmark = pytest.mark.nats

NOBODY = "nats://127.0.0.1:1/trades"


def process(programs: Programs, run_dir: Path, server: NatsServer, sink: str, *settings: str) -> Program:
    source = f"nats://{server.url.removeprefix('nats://')}/ticks"
    more = [flag for setting in ("grpc.port=0", *settings) for flag in ("--set", setting)]
    program = programs.tickcast("process", "--source", source, "--sink", sink, "--run-dir", str(run_dir), *more)
    program.expect("ready", 30)
    return program


def board(run_dir: Path) -> dict:
    with contextlib.suppress(TapeError):
        return json.loads(TapeReader.open(run_dir).board() or b"{}")
    return {}


async def test_what_waited_for_a_sink_is_told_when_it_is_written_no_more(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    program = process(programs, run_dir, nats_server, NOBODY, "tape.bytes=16MiB")
    await asyncio.to_thread(wait_until, lambda: board(run_dir)["source"]["state"] == "live", "it listens")
    client = await nats.connect(nats_server.url)
    for tick in make_ticks(20):
        await client.publish("ticks", as_json(tick))
    await client.close()
    await asyncio.to_thread(wait_until, lambda: board(run_dir)["sinks"][0]["lag"] == 20, "they wait")
    assert program.end(timeout_s=30) == 0

    def started(sink: str, *settings: str) -> list[str]:
        again = process(programs, run_dir, nats_server, sink, *settings)
        assert again.end(timeout_s=30) == 0
        return [line for line in again.errors if "waited for" in line or "new tape" in line]

    assert started(NOBODY, "tape.bytes=16MiB") == []
    (told,) = started("nats://127.0.0.1:2/trades", "tape.bytes=16MiB")
    assert f"20 trades that waited for {NOBODY} are not written by this start" in told
    (told,) = started(NOBODY, "tape.bytes=17MiB")
    assert "a new tape begins" in told
    assert "up to 20" in told
