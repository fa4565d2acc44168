"""`tickcast send` and `tickcast tail` against a real tickcast, over WebSocket and gRPC."""

import gzip
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from fixtures.processes import Program, Programs, clean_env, wait_until
from tickcast._core import TapeReader

GOOD = {"instrumentId": "AAPL", "price": 187.25, "volume": 100, "timestampNs": "1700000000000000000"}
BAD = {"instrumentId": "AAPL", "price": -1, "volume": 100, "timestampNs": "1700000000000000001"}
CSV = "instrument_id,price,volume,timestamp_ns\nAAPL,187.25,100,1700000000000000000\nAAPL,-1,100,1700000000000000001\n"


@pytest.fixture
def served(programs: Programs, run_dir: Path) -> Iterator[dict[str, str]]:
    """The addresses of a running tickcast without a source."""
    program, words = serve(programs, run_dir)
    yield {"ws": words["web"], "grpc": f"grpc://{words['grpc']}"}
    assert program.end() == 0


def serve(programs: Programs, run_dir: Path, *options: str) -> tuple[Program, dict[str, str]]:
    """Start a tickcast; return it and its addresses."""
    program = programs.tickcast("serve", "--port", "0", "--grpc-port", "0", "--run-dir", str(run_dir), *options)
    words = dict(word.split("=", 1) for word in program.expect("ready").split()[1:])
    programs.adopt_children(run_dir)
    return program, words


def sent(programs: Programs, url: str, file: Path, code: int = 0) -> tuple[list[dict], Program]:
    program = programs.tickcast("send", url, str(file))
    assert program.wait() == code, program.errors
    return [json.loads(line) for line in program.lines], program


@pytest.mark.parametrize("kind", ["ws", "grpc"])
def test_verdicts_come_in_order_whatever_the_file_is(
    programs: Programs, served: dict[str, str], tmp_path: Path, kind: str
) -> None:
    lines = tmp_path / "ticks.jsonl"
    lines.write_text(json.dumps(GOOD) + "\n\n" + json.dumps([BAD, GOOD]) + "\n")
    got, program = sent(programs, served[kind], lines)
    assert [trade["status"] for trade in got] == ["VALID", "INVALID", "VALID"]
    assert got[1]["reason"].startswith("Processing error: price:")
    assert got[0]["vwap20m"] == 187.25
    assert program.errors == ["tickcast: 3 verdicts: VALID 2, INVALID 1"]
    if kind == "grpc":
        assert [trade["timestampNs"] for trade in got] == [t["timestampNs"] for t in (GOOD, BAD, GOOD)]
    table = tmp_path / "ticks.csv.gz"
    table.write_bytes(gzip.compress(CSV.encode()))
    got, _ = sent(programs, served[kind], table)
    assert [trade["status"] for trade in got] == ["VALID", "INVALID"]


@pytest.mark.parametrize("kind", ["ws", "grpc"])
def test_many_ticks_get_as_many_verdicts(programs: Programs, served: dict[str, str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "ticks.jsonl"
    file.write_text("".join(json.dumps(GOOD | {"volume": n}) + "\n" for n in range(1, 301)))
    got, _ = sent(programs, served[kind], file)
    assert [int(trade["volume"]) for trade in got] == list(range(1, 301))


def test_lines_that_hold_no_tick_are_told_and_make_it_fail(
    programs: Programs, served: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "ticks.jsonl"
    file.write_text(json.dumps(GOOD) + "\n{broken\n7\n")
    got, program = sent(programs, served["grpc"], file, code=1)
    assert len(got) == 1
    assert [line.split(":")[1] for line in program.errors[:2]] == [" line 2", " line 3"]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    _, program = sent(programs, served["grpc"], wrong, code=2)
    assert "instrument_id,price,volume" in program.errors[-1]


def test_nobody_there_is_told(programs: Programs, tmp_path: Path) -> None:
    file = tmp_path / "ticks.jsonl"
    file.write_text(json.dumps(GOOD) + "\n")
    for url in ("ws://127.0.0.1:1", "grpc://127.0.0.1:1"):
        _, program = sent(programs, url, file, code=1)
        assert "127.0.0.1:1" in program.errors[-1]


def test_tail_does_not_outlive_whoever_reads_it(programs: Programs, run_dir: Path) -> None:
    program, words = serve(programs, run_dir, "--source", "sim://?rate=20000")
    command = (sys.executable, "-m", "tickcast", "tail", words["web"])
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as lines, os.fdopen(writer, "wb") as ours:
        tail = subprocess.Popen(command, env=clean_env(), stdout=ours)
        try:
            assert lines.read(1)
            # It waits for its reader, and the gateway's frames wait for it.
            wait_until(lambda: not takes_more(ours), "the pipe is full")
            first = TapeReader.open(str(run_dir)).head
            wait_until(lambda: TapeReader.open(str(run_dir)).head > first + 60_000, "three more seconds of trades")
            assert not takes_more(ours)
            lines.close()
            tail.wait(5)
        finally:
            tail.kill()
            tail.wait()
    assert program.end() == 0


def takes_more(pipe: IO[bytes]) -> bool:
    """Whether there is room in a pipe. Its bytes would not tell: a page of it is full where the next write began."""
    return bool(select.select([], [pipe], [], 0)[1])


def test_tail_shows_the_same_trades_from_a_gateway_and_from_the_processor(programs: Programs, run_dir: Path) -> None:
    program, words = serve(programs, run_dir, "--source", "sim://?rate=500&instruments=5")
    shown = []
    for url in (words["web"], f"grpc://{words['grpc']}"):
        tail = programs.tickcast("tail", url, "--from", "1", "-n", "200")
        assert tail.wait() == 0, tail.errors
        shown.append([json.loads(line) for line in tail.lines])
    assert program.end() == 0
    assert shown[0] == shown[1]
    assert len(shown[0]) == 200
