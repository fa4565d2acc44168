"""A disk without room for dead letters: a log waits and gives them again, others go on without."""

import json
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import as_json
from tickcast._core import TapeReader

pytestmark = pytest.mark.nats

GOOD = [as_json(("AAPL", 100.0 + number, 5, 1_700_000_000_000_000_000 + number)) for number in range(20)]
BAD = b'{"instrumentId":"AAPL"}'


def process(programs: Programs, run_dir: Path, source: str, letters: Path | str) -> Program:
    flags = ("--source", source, "--dead-letters", str(letters), "--run-dir", str(run_dir))
    program = programs.tickcast("process", *flags, "--set", "tape.bytes=16MiB", "--set", "grpc.port=0")
    program.expect("ready", 30)
    return program


def told(program: Program, what: str) -> bool:
    return any("dead letters does not work: /dev/full" in line and what in line for line in program.errors)


async def test_a_log_waits_until_there_is_room(
    nats_server: NatsServer, programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks"]))
    for payload in (BAD, *GOOD):
        await context.publish("ticks", payload)
    await client.close()
    source = f"jetstream://{nats_server.url.removeprefix('nats://')}/ticks"
    program = process(programs, run_dir, source, "/dev/full")
    wait_until(lambda: told(program, "No space left on device; the source waits"), "it is told")
    assert TapeReader.open(run_dir).head == 0
    assert program.end() == 0
    letters = tmp_path / "letters.jsonl"
    program = process(programs, run_dir, source, letters)
    wait_until(lambda: TapeReader.open(run_dir).head == len(GOOD), "the rest is judged")
    assert program.end() == 0
    assert [json.loads(line)["offset"] for line in letters.read_text().splitlines()] == [1]


async def test_what_cannot_be_had_again_is_not_waited_for(
    nats_server: NatsServer, programs: Programs, run_dir: Path
) -> None:
    program = process(programs, run_dir, f"nats://{nats_server.url.removeprefix('nats://')}/ticks", "/dev/full")
    client = await nats.connect(nats_server.url)
    wait_until(lambda: json.loads(TapeReader.open(run_dir).board())["source"]["state"] == "live", "it listens")
    for payload in (BAD, *GOOD, BAD):
        await client.publish("ticks", payload)
    await client.flush()
    await client.close()
    wait_until(lambda: TapeReader.open(run_dir).head == len(GOOD), "ticks are judged all the same")
    wait_until(lambda: told(program, "No space left on device; they are lost"), "it is told")
    assert program.end() == 0
