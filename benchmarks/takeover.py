"""A processor of a group is killed and stays away: how long until another one delivers its partitions' trades.

    python benchmarks/takeover.py [--runs 5] [--write]

Two processors share six partitions of a real Kafka, exactly once by transactions, at 1,000 ticks/s. One gets `kill -9`.
Measured is the age of each trade when a reader of the validated topic gets it: for those whose partitions were the dead
one's, the oldest tells how long they stood still; the others' tells what the survivor's partitions notice.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from tickcast._core import TapeReader
from tickcast.errors import TapeError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from fixtures.kafka import KafkaServer  # noqa: E402 (the fixtures are beside, in tests)

RATE = 1000
PARTITIONS = 6
BEFORE_S, AFTER_S = 8, 20


def start(address: str, topic: str, run_dir: Path) -> subprocess.Popen:
    """Start a processor of the group."""
    source = f"kafka://{address}/{topic}?group={topic}&exactly_once=true"
    flags = ("--source", source, "--sink", f"kafka://{address}/{topic}-out", "--run-dir", str(run_dir))
    env = {name: value for name, value in os.environ.items() if not name.startswith("TICKCAST_")}
    command = [sys.executable, "-m", "tickcast", "process", *flags, "--set", "grpc.port=0"]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, env=env, stdout=null, stderr=null, start_new_session=True)


def publish(address: str, topic: str, ended: threading.Event) -> None:
    """Publish ticks to all partitions in turn, each with the time as its volume, ns."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 1})
    begun, count = time.monotonic(), 0
    while not ended.is_set():
        while count < (time.monotonic() - begun) * RATE:
            tick = {"instrumentId": f"SYM{count % PARTITIONS}", "price": 10, "volume": str(time.time_ns())}
            producer.produce(topic, json.dumps(tick), partition=count % PARTITIONS)
            count += 1
        producer.poll(0)
        time.sleep(0.005)
    producer.flush(10)


def partitions_of(run_dir: Path) -> set[int]:
    """Return which partitions a processor has."""
    with contextlib.suppress(OSError, TapeError):
        board = json.loads(TapeReader.open(run_dir).board() or b"{}")
        _, named, numbers = board.get("source", {}).get("detail", "").rpartition("partitions ")
        return set(json.loads(numbers)) if named else set()
    return set()


def run_once(kafka: KafkaServer, topic: str, folder: Path) -> tuple[float, float]:
    """Return the greatest age of the dead one's trades and of the others', seconds."""
    kafka.create_topic(topic, PARTITIONS)
    kafka.create_topic(f"{topic}-out", 1)
    processors = [start(kafka.address, topic, folder / f"{topic}-{number}") for number in range(2)]
    ended = threading.Event()
    publishing = threading.Thread(target=publish, args=(kafka.address, topic, ended))
    publishing.start()
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "reader", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(f"{topic}-out", 0, 0)])
    killed_s, victims, ages = 0.0, set[int](), {True: 0.0, False: 0.0}
    begun = time.monotonic()
    try:
        while not killed_s or time.time() - killed_s < AFTER_S:
            assert time.monotonic() - begun < 60 + AFTER_S, "the group does not settle"
            if not killed_s and time.monotonic() - begun > BEFORE_S:
                victims = partitions_of(folder / f"{topic}-0")
                if len(victims) == PARTITIONS // 2:
                    os.killpg(processors[0].pid, 9)
                    killed_s = time.time()
            for message in consumer.consume(1000, 0.05):
                trade = json.loads(message.value())
                sent_s = int(trade["volume"]) / 1e9
                if killed_s and sent_s > killed_s - 1:
                    is_victims = int(trade["tradeId"][8:12], 16) in victims
                    ages[is_victims] = max(ages[is_victims], time.time() - sent_s)
    finally:
        ended.set()
        publishing.join()
        consumer.close()
        for processor in processors:
            processor.kill()
            processor.wait()
    return ages[True], ages[False]


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name, KafkaServer() as kafka:
        found = [run_once(kafka, f"ticks{run}", Path(name)) for run in range(args.runs)]
    dead, others = ([pair[at] for pair in found] for at in (0, 1))
    shown = [f"{statistics.median(ages):.1f} s ({', '.join(f'{age:.1f}' for age in ages)})" for ages in (dead, others)]
    report = f"""# A processor that dies and stays away

{time.strftime("%Y-%m-%d")}, {os.cpu_count()} cores ({platform.machine()}), CPython {platform.python_version()}, \
confluent-kafka {version("confluent-kafka")}; two processors of a group, six partitions, exactly once, {RATE:,} \
ticks/s; `kill -9` of one, not started again. `python benchmarks/takeover.py --write`

| | greatest age of a trade in the validated topic, median (each run) |
|---|---:|
| of the dead one's partitions | **{shown[0]}** |
| of the other one's | {shown[1]} |

The session timeout, 6 s, is most of it; the rebalance and reading the windows again is the rest.
"""
    print(report)
    if args.write:
        (HERE / "results" / "takeover.md").write_text(report)


if __name__ == "__main__":
    main()
