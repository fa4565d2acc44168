"""Nothing lost, nothing doubled: processors of a group are killed, the broker is restarted, members come and go."""

import itertools
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from fixtures.kafka import KafkaServer
from fixtures.processes import Program, Programs
from fixtures.ticks import make_ticks
from fixtures.topics import Publisher, Topic, message_id
from tickcast._core import TapeReader

TICKS = int(os.environ.get("TICKCAST_TEST_LOG_TICKS", "100000"))
PUBLISH_S = float(os.environ.get("TICKCAST_TEST_LOG_SECONDS", "20"))
PATIENCE_S = 60 + TICKS // 2000
PARTITIONS = 6

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(2 * PUBLISH_S + 2 * PATIENCE_S)]


class Group:
    """Processors of one consumer group, each with a run directory of its own."""

    def __init__(self, programs: Programs, folder: Path, source: str, sink: str) -> None:
        self._programs, self._folder, self._source, self._sink = programs, folder, source, sink
        self.members: dict[int, Program] = {}
        self._killed: list[tuple[int, Program]] = []

    def start(self, number: int) -> None:
        self.members[number] = self._programs.tickcast(
            "process",
            *("--source", self._source, "--sink", self._sink, "--run-dir", str(self._folder / f"p{number}")),
            *(
                "--set",
                "log_level=info",
                "--set",
                "tape.bytes=64MiB",
                "--set",
                "judge.rule_workers=1",
                "--set",
                "grpc.port=0",
            ),
        )

    def kill(self, number: int) -> None:
        program = self.members.pop(number)
        program.kill()
        self._killed.append((number, program))

    def stop(self, number: int) -> None:
        program = self.members.pop(number)
        program.expect("ready")  # it may just have been started
        assert program.end() == 0, program.errors[-5:]

    def close(self) -> None:
        for number in list(self.members):
            self.stop(number)

    def words(self) -> str:
        """What the members have said, those that were killed first."""
        told = []
        for number, program in self._killed:
            told += [f"-- {number}, killed", *program.errors[-20:]]
        for number, program in self.members.items():
            tape = TapeReader.open(self._folder / f"p{number}")
            board = json.loads(tape.board() or b"{}")
            told += [f"-- {number}, head {tape.head}, {board.get('source')} {board.get('sinks')}"]
            told += program.errors[-40:]
        return "\n".join(told)


def publish_paced(address: str, topic: str, count: int, seconds: float) -> threading.Thread:
    """Publish ticks in the background, evenly over `seconds`."""
    ticks = make_ticks(count)

    def publish() -> None:
        publisher = Publisher(address, topic)
        start = time.monotonic()
        step = max(1, int(count / seconds / 50))
        for at in range(0, count, step):
            publisher.publish(ticks[at : at + step])
            time.sleep(max(0.0, start + at / count * seconds - time.monotonic()))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    return thread


def reference(kafka: KafkaServer, programs: Programs, folder: Path, topic: str, count: int) -> dict[str, bytes]:
    """Return the trades of a run that nobody disturbs, by trade id."""
    kafka.create_topic(f"{topic}-reference", PARTITIONS)
    source = f"kafka://{kafka.address}/{topic}?group={topic}-reference"
    group = Group(programs, folder / "reference", source, f"kafka://{kafka.address}/{topic}-reference")
    group.start(0)
    messages = Topic(kafka.address, f"{topic}-reference").read(count, PATIENCE_S)
    group.close()
    assert len(messages) == count
    return {message_id(message): message.value() for message in messages}


def check(messages: list, expected: dict[str, bytes], *, once: bool) -> None:
    """Compare with the undisturbed run: the same bytes, in order for each instrument, each once if so promised."""
    if once:
        assert len(messages) == len({message_id(message) for message in messages}), "a trade is there twice"
    found: dict[str, bytes] = {}
    last: dict[str, tuple[str, int]] = {}
    for message in sorted(messages, key=lambda m: (m.partition(), m.offset())):
        identity = message_id(message)
        if identity in found:
            assert found[identity] == message.value(), "a trade is there twice, and not the same"
            continue
        found[identity] = message.value()
        key = message.key().decode()
        place = (identity[8:12], int(identity[12:28], 16))
        assert key not in last or last[key] < place, f"{key} is out of order at {identity}"
        last[key] = place
    assert found.keys() == expected.keys()
    wrong = [identity for identity, payload in expected.items() if found[identity] != payload]
    assert not wrong, (len(wrong), found[wrong[0]], expected[wrong[0]])


@pytest.mark.parametrize("exactly_once", [True, False], ids=["exactly-once", "at-least-once"])
def test_killed_processors_and_a_restarted_broker_change_nothing(
    kafka_server: KafkaServer, programs: Programs, tmp_path: Path, exactly_once: bool
) -> None:
    kafka, topic = kafka_server, f"ticks-{exactly_once}".lower()
    count = TICKS if exactly_once else TICKS // 5
    kafka.create_topic(topic, PARTITIONS)
    kafka.create_topic(f"{topic}-out", PARTITIONS)
    source = f"kafka://{kafka.address}/{topic}?group={topic}&exactly_once={str(exactly_once).lower()}"
    group = Group(programs, tmp_path / "killed", source, f"kafka://{kafka.address}/{topic}-out")
    chance = random.Random(7)
    for number in range(2):
        group.start(number)
    publishing = publish_paced(kafka.address, topic, count, PUBLISH_S)
    for round_ in itertools.count():
        publishing.join(chance.uniform(2.0, 4.0))
        if not publishing.is_alive():
            break
        victim = chance.randrange(2)
        group.kill(victim)
        if round_ == 2:
            kafka.restart()
        group.start(victim)
    messages = Topic(kafka.address, f"{topic}-out").read(count, PATIENCE_S, group.words)
    group.close()
    check(messages, reference(kafka, programs, tmp_path, topic, count), once=exactly_once)


def test_members_that_come_and_go_change_nothing(kafka_server: KafkaServer, programs: Programs, tmp_path: Path) -> None:
    kafka, topic, count = kafka_server, "rebalanced", TICKS // 5
    kafka.create_topic(topic, PARTITIONS)
    kafka.create_topic(f"{topic}-out", PARTITIONS)
    source = f"kafka://{kafka.address}/{topic}?group={topic}&exactly_once=true"
    group = Group(programs, tmp_path / "moved", source, f"kafka://{kafka.address}/{topic}-out")
    group.start(0)
    publishing = publish_paced(kafka.address, topic, count, PUBLISH_S)
    publishing.join(PUBLISH_S / 4)
    group.start(1)
    group.start(2)
    publishing.join(PUBLISH_S / 3)
    group.kill(0)
    publishing.join(120)
    messages = Topic(kafka.address, f"{topic}-out").read(count, PATIENCE_S, group.words)
    said = [line for member in group.members.values() for line in member.errors]
    assert [line for line in said if "may have left open is ended" in line], "the dead one's transaction stayed open"
    group.close()
    check(messages, reference(kafka, programs, tmp_path, topic, count), once=True)
