"""Whoever takes over takes the verdicts of the log's ticks as they were given; no rule is asked about them again."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from fixtures.kafka import KafkaServer
from fixtures.processes import Programs, wait_until
from fixtures.topics import Publisher, Topic, trade_of
from fixtures.verdicts import RULES, TICKS, check_vwaps, rules_asked, trades_in

CUT = 2000

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
        found = trades_in(tmp_path / "trades.jsonl")
        return found if len(found) == count else []

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
    asked = wait_until(lambda: rules_asked(run_dir, len(TICKS) - CUT), "the board tells what the rules were asked")
    assert program.end() == 0, program.errors

    assert asked == len(TICKS) - CUT, "rules were asked again about what was judged before"
    told = [line for line in program.errors if "read for the verdicts" in line]
    assert bool(told) is not keeps_tape, program.errors
    assert {trade["status"] for trade in trades[:CUT]} == {"VALID", "INVALID"}
    assert {trade["status"] for trade in trades[CUT:]} == {"VALID"}
    check_vwaps(trades)


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
