"""Whoever takes over takes the verdicts of the log's ticks as they were given; no rule is asked about them again."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from fixtures.kafka import KafkaServer
from fixtures.processes import Programs, wait_until
from fixtures.ticks import make_ticks
from fixtures.topics import Publisher, Topic, trade_of
from tickcast._core import TapeReader

RULES = """
import tickcast as tc

odd = tc.RuleSet("odd", version="1")
every = tc.RuleSet("every", version="1")


@odd.check(reason="Even volume")
def odd_volumes(ticks):
    return ticks.volume % 2 == 1


@every.check(reason="Never")
def anything(ticks):
    return ticks.price > 0
"""
TICKS = [
    (name, price, volume, time_ns) for name, price, volume, time_ns in make_ticks(3000, instruments=5) if price > 0
]
CUT = 2000
WINDOW_NS = 20 * 60 * 10**9

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("keeps_tape", [True, False], ids=["from-the-tape", "from-the-topic"])
@pytest.mark.parametrize("form", ["json", "proto", "proto-batch"])
def test_the_windows_hold_what_went_out_whatever_the_rules_say_by_now(
    kafka_server: KafkaServer, programs: Programs, tmp_path: Path, keeps_tape: bool, form: str
) -> None:
    topic, address = f"earlier-{form}-{keeps_tape}".lower(), kafka_server.address
    kafka_server.create_topic(topic, 2)
    kafka_server.create_topic(f"{topic}-out", 3)
    (tmp_path / "desk.py").write_text(RULES)
    run_dir = tmp_path / "run"

    def start(rules: str):
        source, sink = (
            f"kafka://{address}/{topic}?instance=one&group={topic}",
            f"kafka://{address}/{topic}-out?format={form}",
        )
        flags = ("--source", source, "--sink", sink, "--sink", f"jsonl:{tmp_path}/trades.jsonl", "--rules", rules)
        settings = ("--set", "tape.bytes=64MiB", "--set", "grpc.port=0", "--set", "log_level=info")
        return programs.tickcast("process", *flags, "--run-dir", str(run_dir), *settings, cwd=tmp_path)

    def written(count: int) -> list[dict]:
        path = tmp_path / "trades.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines] if len(lines) == count else []

    publisher = Publisher(address, topic)
    program = start("desk:odd")
    publisher.publish(TICKS[:CUT])
    wait_until(lambda: written(CUT), "the first trades")
    assert program.end() == 0
    if not keeps_tape:
        shutil.rmtree(run_dir)
    publisher.publish(TICKS[CUT:])
    program = start("desk:every")
    trades = wait_until(lambda: written(len(TICKS)), "all trades")
    asked = wait_until(lambda: rules_asked(run_dir), "the board tells what the rules were asked")
    assert program.end() == 0, program.errors

    assert asked == len(TICKS) - CUT, "rules were asked again about what was judged before"
    told = [line for line in program.errors if "read for the verdicts" in line]
    assert bool(told) is not keeps_tape, program.errors
    assert {trade["status"] for trade in trades[:CUT]} == {"VALID", "INVALID"}
    assert {trade["status"] for trade in trades[CUT:]} == {"VALID"}
    check_vwaps(trades)


def rules_asked(run_dir: Path) -> int:
    """Return how many ticks the rules were asked about, once the board has counted the last of them."""
    board = json.loads(TapeReader.open(run_dir).board() or b"{}")
    done = board.get("counters", {}).get("valid") == len(TICKS) - CUT
    return board["ruleCounters"]["rows"] if done else 0


def check_vwaps(trades: list[dict]) -> None:
    """Compare every VWAP with the plain sum over the VALID trades that stand before it in its partition."""
    valid: dict[str, list[dict]] = defaultdict(list)
    in_order = sorted(trades, key=lambda trade: (trade["tradeId"][8:12], int(trade["tradeId"][12:28], 16)))
    for trade in in_order:
        if trade["status"] != "VALID":
            continue
        held = valid[trade["instrumentId"]]
        held.append(trade)
        until = int(trade["timestampNs"])
        window = [t for t in held if until - WINDOW_NS < int(t["timestampNs"]) <= until]
        volume = sum(int(t["volume"]) for t in window)
        vwap = sum(t["price"] * int(t["volume"]) for t in window) / volume
        assert trade["vwap20m"] == pytest.approx(vwap, rel=1e-9), trade


def test_what_cannot_be_found_in_the_topic_is_judged_again(
    kafka_server: KafkaServer, programs: Programs, tmp_path: Path
) -> None:
    address = kafka_server.address
    for name in ("unfound", "unfound-out", "unfound-other"):
        kafka_server.create_topic(name, 1)

    def start(out: str):
        flags = (
            "--source",
            f"kafka://{address}/unfound?instance=one&group=unfound",
            "--sink",
            f"kafka://{address}/{out}",
        )
        return programs.tickcast("process", *flags, "--run-dir", str(tmp_path / "run"), "--set", "grpc.port=0")

    publisher = Publisher(address, "unfound")
    publisher.publish(TICKS[:300])
    program = start("unfound-out")
    first = Topic(address, "unfound-out").read(300, 30)
    assert program.end() == 0
    shutil.rmtree(tmp_path / "run")
    publisher.publish(TICKS[300:400])
    program = start("unfound-other")
    second = Topic(address, "unfound-other").read(100, 30)
    assert program.end() == 0
    check_vwaps([trade_of(message) for message in [*first, *second]])
