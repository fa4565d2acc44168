"""The whole path of a queue: Kafka → decode → screen → a vectorised rule → 20-minute VWAP → Kafka, side by side.

    python benchmarks/queue_path.py [--runs 3] [--scale 1.0] [--only path|rates|follow|latency] [--write]

A real broker, started here. Against the usual Python way, Quix Streams, and a batch version written by hand
(`queue_contenders.py`), one after the other in every run, each with topics of its own. What counts is CPU time of the
contender's processes, children included, for a backlog that lies in the topic, to the last trade in the output topic,
after a warm-up of two thirds as many ticks; broker, publisher and the reader that counts are not in it. Quix Streams
gets a virtual environment of its own in ``.cache``: it wants another confluent-kafka.
"""

import argparse
import contextlib
import os
import platform
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from grpc_tools import protoc

from tickcast._core import TapeReader, decode_topic
from tickcast.kafka import open_inlet, poll

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))
from fixtures.kafka import KafkaServer  # noqa: E402 (the fixtures are beside, in tests)

QUIX = "quixstreams==3.28.1"
PARTITIONS, INSTRUMENTS, MANY = 6, 200, 64
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000
WARM = 6400
TICKS = {
    ("bare", "single"): 300_000,
    ("bare", "many"): 1_500_000,
    ("tickcast", "single"): 300_000,
    ("usual", "single"): 40_000,
    ("quix", "single"): 20_000,
    ("batch", "single"): 150_000,
    ("tickcast", "many"): 1_500_000,
    ("usual", "many"): 80_000,
    ("quix", "many"): 60_000,
    ("batch", "many"): 300_000,
}
WORDS = {
    "bare": "tickcast, output as the others' (`headers=false`)",
    "tickcast": "tickcast with its headers",
    "usual": "(a) poll, protobuf object, Pydantic, rule call and deque per tick",
    "quix": "(b) Quix Streams, the same work in `apply`",
    "batch": "(c) batches by hand: `consume`, NumPy, msgspec",
}
RATES = {"many": (1_000, 10_000, 50_000, 100_000, 200_000), "single": (1_000, 5_000, 20_000, 50_000)}
RATE_S, LATENCY_S = 5.0, 8.0
TAPE_BYTES = 64 * 2**20
"""So small that a warm-up is a lap, as a tape has made after minutes: the system gives and clears its pages once."""
RESULTS = HERE / "results" / "queue_path.md"
EMPTY = """# The whole path of a queue

`python benchmarks/queue_path.py --write`: broker → decode → screen → a vectorised rule → 20-minute VWAP → validated
topic. Broker, publisher and reader share the machine with the contender; only the contender's CPU counts.

<!-- part: path -->
<!-- end -->

<!-- part: rates -->
<!-- end -->

<!-- part: follow -->
<!-- end -->

<!-- part: latency -->
<!-- end -->
"""
RULES = """
import numpy as np
import tickcast as tc

rules = tc.RuleSet("desk", version="1")


@rules.check(reason="Too far from the 20-minute VWAP")
def near_vwap(ticks: tc.Ticks) -> np.ndarray:
    return ~(np.abs(ticks.price / ticks.vwap_20m - 1) >= 0.05)
"""


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encoded(name, price, volume, time_ns):
    head = b"\x0a" + varint(len(name)) + name.encode() + b"\x11" + struct.pack("<d", price)
    return head + b"\x18" + varint(volume) + b"\x20" + varint(time_ns)


class Market:
    """Messages of ticks, on and on; a message of many holds one instrument, as keyed topics have them."""

    def __init__(self, form):
        self._form, self._chance, self._row = form, random.Random(7), 0
        self._prices = [100.0] * INSTRUMENTS

    def messages(self, ticks, *, now=False):
        """Return key and payload of so many ticks; `now`: their time is the clock's."""
        size = MANY if self._form == "many" else 1
        found = []
        for _ in range(max(1, ticks // size)):
            number = self._chance.randrange(INSTRUMENTS)
            name, parts = f"SYM{number:03d}", []
            for _ in range(size):
                self._row += 1
                price = round(max(1.0, self._prices[number] * (1 + self._chance.gauss(0, 0.001))), 4)
                self._prices[number] = price
                time_ns = time.time_ns() if now else START_NS + self._row * STEP_NS
                parts.append(encoded(name, price, self._chance.randint(1, 1000), time_ns))
            payload = parts[0] if size == 1 else b"".join(b"\x0a" + varint(len(part)) + part for part in parts)
            found.append((name, payload))
        return found


def publisher(address):
    return Producer(
        {
            "bootstrap.servers": address,
            "linger.ms": 2,
            "queue.buffering.max.messages": 2_000_000,
            "partitioner": "murmur2_random",
        }
    )


def publish(producer, topic, form, messages):
    headers = {"tickcast-format": "proto-batch"} if form == "many" else None
    for name, payload in messages:
        while True:
            try:
                producer.produce(topic, payload, name, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)


def reading(address):
    return {
        "bootstrap.servers": address,
        "group.id": "reader",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 5,
    }


class Ages:
    """Says how old each trade is that comes to an output topic from now on, a message each, by its tick's time."""

    def __init__(self, address, topic):
        self._consumer = Consumer(reading(address))
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in range(PARTITIONS)])
        self.ms = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            for message in self._consumer.consume(500, 0.002):
                if message.error() is None:
                    payload = message.value()
                    at = payload.find(b'"timestampNs":"') + 15
                    self.ms.append(time.time_ns() / 1e6 - int(payload[at : payload.index(b'"', at)]) / 1e6)
        self._consumer.close()

    def close(self):
        self._stop.set()
        self._thread.join()


class Counter:
    """Counts the trades in an output topic, in a thread, past Python: nobody shall have to wait for the reader."""

    def __init__(self, address, topic, form):
        self._consumer, self._inlet = open_inlet(reading(address), 10_000)
        for partition in range(PARTITIONS):
            self._inlet.divert(topic, partition)
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self._form, self.trades, self._wrong = "json" if form == "single" else "proto-batch", 0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            poll(self._consumer)
            inboxes, _ = self._inlet.take(0.005, 0.0)
            if inboxes:
                self._take(inboxes)
        self._inlet.close()
        self._consumer.close()

    def _take(self, inboxes):
        found = decode_topic(inboxes, stream=0, format=self._form)
        self._wrong = self._wrong or next(iter(found.undecodable), "")
        self.trades += found.rows

    def wait(self, trades, what, timeout_s=240.0):
        end = time.monotonic() + timeout_s
        while self.trades < trades:
            if self._wrong or time.monotonic() > end:
                raise SystemExit(f"{what}: {self.trades} of {trades} trades after {timeout_s:g} s; {self._wrong}")
            time.sleep(0.01)

    def close(self):
        self._stop.set()
        self._thread.join()


def cpu_s(pid):
    """CPU time of a process and all below it, ended ones included."""
    total = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += cpu_s(int(child))
    return total


class Bench:
    """Broker, folder and classes of all measurements."""

    def __init__(self, broker, folder, run_dirs):
        self.broker, self.folder, self.run_dirs, self._count = broker, Path(folder), Path(run_dirs), 0
        (self.folder / "benchrules.py").write_text(RULES)
        self.protos = self.folder / "protos"
        (self.protos / "tickcast" / "v1").mkdir(parents=True)
        (self.protos / "tickcast" / "__init__.py").touch()
        files = ("market_data.proto", "tickcast/v1/ticks.proto", "tickcast/v1/judge.proto")
        if protoc.main(["", f"-I{ROOT / 'proto'}", f"--python_out={self.protos}", *files]):
            raise SystemExit("protoc failed")

    @contextlib.contextmanager
    def running(self, who, form, options=""):
        """Run a contender between topics of its own; yield its pid, what it reads, and a counter of what it wrote."""
        self._count += 1
        source, sink = f"in-{self._count}", f"out-{self._count}"
        for topic in (source, sink):
            self.broker.create_topic(topic, PARTITIONS)
        counter = Counter(self.broker.address, sink, form)
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command(who, form, source, sink, options), cwd=self.folder, stdout=log, stderr=log
            )
        try:
            yield process.pid, source, counter
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            counter.close()

    def _command(self, who, form, source, sink, options):
        address = self.broker.address
        if who in ("bare", "tickcast"):
            output = ("json" if form == "single" else "proto-batch") + ("&headers=false" if who == "bare" else "")
            urls = (f"kafka://{address}/{source}?group={source}{options}", f"kafka://{address}/{sink}?format={output}")
            flags = ("--rules", "benchrules:rules", "--run-dir", str(self.run_dirs / source), "--grpc-port", "0")
            flags += ("--set", f"tape.bytes={TAPE_BYTES}")
            return [sys.executable, "-m", "tickcast", "process", "--source", urls[0], "--sink", urls[1], *flags]
        python = quix_python() if who == "quix" else sys.executable
        return [python, str(HERE / "queue_contenders.py"), who, address, source, sink, form, str(self.protos)]


def quix_python():
    """Return a Python that has Quix Streams, made if need be."""
    home = Path(os.environ.get("TICKCAST_CACHE_DIR", ROOT / ".cache")) / "quix"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", QUIX, "pydantic", "protobuf"], check=True)
        (home / "ready").touch()
    return str(home / "bin" / "python")


def measure(bench, who, form, scale):
    """Return ticks per CPU-second and ticks per second of a contender that has more to do than it can."""
    ticks = max(MANY, int(TICKS[who, form] * scale) // MANY * MANY)
    market, producer = Market(form), publisher(bench.broker.address)
    warm_ticks = max(WARM, ticks * 2 // 3 // MANY * MANY)
    warm, messages = market.messages(warm_ticks), market.messages(ticks)
    with bench.running(who, form) as (pid, source, counter):
        publish(producer, source, form, warm)
        producer.flush()
        counter.wait(warm_ticks, f"{who} {form}, to warm up")
        # It stands still until all of it is there: who publishes would not keep up with everybody.
        os.kill(pid, signal.SIGSTOP)
        publish(producer, source, form, messages)
        producer.flush()
        cpu, start = cpu_s(pid), time.monotonic()
        os.kill(pid, signal.SIGCONT)
        counter.wait(warm_ticks + ticks, f"{who} {form}")
        return ticks / (cpu_s(pid) - cpu), ticks / (time.monotonic() - start)


def paced(bench, form, rate, seconds, options=""):
    """Return the cores that tickcast takes at a rate, the rate, and how old its trades were at their reader, in ms.

    The ages are those of single ticks only.
    """
    market, producer = Market(form), publisher(bench.broker.address)
    with bench.running("tickcast", form, options) as (pid, source, counter):
        publish(producer, source, form, market.messages(WARM))
        producer.flush()
        counter.wait(WARM, "tickcast, to warm up")
        stop = threading.Event()
        serving = threading.Thread(target=lambda: [producer.poll(0.1) for _ in iter(stop.is_set, True)])
        serving.start()
        ages = Ages(bench.broker.address, source.replace("in-", "out-")) if form == "single" else None
        cpu, start, sent = cpu_s(pid), time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            due = int(rate * passed) - sent
            if due >= (MANY if form == "many" else 1):
                publish(producer, source, form, market.messages(due, now=True))
                sent += due // MANY * MANY if form == "many" else due
            time.sleep(0.002)
        used = (cpu_s(pid) - cpu) / passed
        stop.set()
        serving.join()
        producer.flush()
        counter.wait(WARM + sent, f"tickcast at {rate}/s", 60)
        if ages is not None:
            ages.close()
        return used, sent / passed, ages.ms if ages is not None else []


FORMS = {
    "single": "One tick a message, JSON out, a message a trade",
    "many": f"{MANY} ticks a message, `ValidatedTradeBatch` out",
}


def compare(bench, runs, scale):
    """Yield the tables of all contenders, after every run."""
    found = {form: {who: [] for who in WORDS} for form in FORMS}
    for _ in range(runs):
        for form in FORMS:
            for who in WORDS:
                found[form][who].append(measure(bench, who, form, scale))
                print(form, who, *(f"{value:,.0f}" for value in found[form][who][-1]), flush=True)
        yield [line for form, words in FORMS.items() for line in table(words, found[form])]


def table(words, found):
    """Return the table of what was found of each contender: ticks per CPU-second and per second, of each run."""
    ours = [cpu for cpu, _ in found["bare"]]
    lines = [
        "",
        f"## {words}",
        "",
        "| | ticks per CPU-second | ticks/s | the first against it, per CPU-second (each run) |",
        "|---|---:|---:|---:|",
    ]
    for who, name in WORDS.items():
        cpu, wall = (statistics.median(run[k] for run in found[who]) for k in (0, 1))
        ratios = [a / b for a, (b, _) in zip(ours, found[who], strict=True)]
        each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        ratio = "" if who == "bare" else f"**{statistics.median(ratios):.1f}×** ({each})"
        lines.append(f"| {name} | {cpu:,.0f} | {wall:,.0f} | {ratio} |")
    return lines


def rates(bench):
    """Yield the table of what tickcast costs by rate, after every row."""
    lines = [
        "",
        "## How cost grows",
        "",
        f"Cores taken by processor and rule worker, over {RATE_S:g} s each.",
        "",
        "| ticks/s wanted | a message | ticks/s sent | cores | µs of CPU a tick |",
        "|---:|---:|---:|---:|---:|",
    ]
    for form, wanted in RATES.items():
        for rate in wanted:
            used, sent, _ = paced(bench, form, rate, RATE_S)
            size = MANY if form == "many" else 1
            lines.append(f"| {rate:,} | {size} | {sent:,.0f} | {used:.2f} | {used / sent * 1e6:.1f} |")
            print(lines[-1], flush=True)
            yield lines


def follow(bench, form, scale):
    """Return how many trades a CPU-second of a gateway's follower takes from the topic to its tape."""
    ticks = max(MANY, int(TICKS["tickcast", form] * scale) // MANY * MANY)
    market, producer = Market(form), publisher(bench.broker.address)
    warm, messages = market.messages(WARM), market.messages(ticks)
    with bench.running("tickcast", form) as (_, source, counter):
        run_dir = bench.run_dirs / f"follower-{source}"
        topic = f"kafka://{bench.broker.address}/{source.replace('in-', 'out-')}"
        command = [sys.executable, "-m", "tickcast", "process", "--source", topic, "--set", "follow=true"]
        with (bench.folder / "log").open("ab") as log:
            flags = ["--run-dir", str(run_dir), "--grpc-port", "0"]
            follower = subprocess.Popen([*command, *flags], cwd=bench.folder, stdout=log, stderr=log)
        try:
            publish(producer, source, form, warm)
            producer.flush()
            wait_for_head(run_dir, WARM)
            cpu = cpu_s(follower.pid)
            publish(producer, source, form, messages)
            producer.flush()
            counter.wait(WARM + ticks, f"processor, {form}")
            wait_for_head(run_dir, WARM + ticks)
            return ticks / (cpu_s(follower.pid) - cpu)
        finally:
            follower.terminate()
            follower.wait(20)


def wait_for_head(run_dir, head, timeout_s=120.0):
    end = time.monotonic() + timeout_s
    while not (run_dir / "tape").exists() or TapeReader.open(run_dir).head < head:
        if time.monotonic() > end:
            raise SystemExit(f"the follower is not at {head} after {timeout_s:g} s")
        time.sleep(0.02)


def followers(bench, runs, scale):
    """Yield the table of what following costs, after every row."""
    lines = [
        "",
        "## What a gateway's follower costs",
        "",
        "All of the validated topic to a tape of its own; without clients.",
        "",
        "| | trades per CPU-second |",
        "|---|---:|",
    ]
    for form, words in (("single", "JSON, a message a trade"), ("many", "`ValidatedTradeBatch`")):
        found = [follow(bench, form, scale) for _ in range(runs)]
        lines.append(f"| {words} | {statistics.median(found):,.0f} ({', '.join(f'{one:,.0f}' for one in found)}) |")
        print(lines[-1], flush=True)
        yield lines


def latency(bench, runs):
    """Yield the table of what exactly_once adds, after every row."""
    lines = [
        "",
        "## What exactly_once adds",
        "",
        f"1,000 ticks/s, one a message, {LATENCY_S:g} s; from before `produce` to a reader (read_committed).",
        "",
        "| | p50, ms | p99, ms |",
        "|---|---:|---:|",
    ]
    # A broker that has just started compiles itself, beside us: it took up to half a second to answer.
    paced(bench, "single", 1_000, LATENCY_S)
    for words, options in (("at least once", ""), ("exactly once, by transactions", "&exactly_once=true")):
        found = []
        for _ in range(runs):
            _, _, ages = paced(bench, "single", 1_000, LATENCY_S, options)
            found.append((np.percentile(ages, 50), np.percentile(ages, 99)))
        p50, p99 = (statistics.median(run[k] for run in found) for k in (0, 1))
        each = ", ".join(f"{run[1]:.1f}" for run in found)
        lines.append(f"| {words} | {p50:.1f} | {p99:.1f} ({each}) |")
        print(lines[-1], flush=True)
        yield lines


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--scale", type=float, default=1.0, help="part of the ticks")
    options.add_argument(
        "--only", choices=("path", "rates", "follow", "latency"), help="one part; the others stay as they were written"
    )
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # as $XDG_RUNTIME_DIR, where tapes lie by default
    with (
        KafkaServer() as broker,
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir=memory) as run_dirs,
    ):
        bench = Bench(broker, folder, run_dirs)
        parts = {
            "path": lambda: compare(bench, args.runs, args.scale),
            "rates": lambda: rates(bench),
            "follow": lambda: followers(bench, args.runs, args.scale),
            "latency": lambda: latency(bench, args.runs),
        }
        for name in [args.only] if args.only else parts:
            for lines in parts[name]():
                if args.write:
                    write(name, f"{conditions()}\n\n" + "\n".join(lines).strip())


def conditions():
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), CPython "
        f"{platform.python_version()}, confluent-kafka {version('confluent-kafka')}, {QUIX}; medians."
    )


def write(part, text):
    """Put a part in its place in the results; the others stay."""
    page = RESULTS.read_text() if RESULTS.exists() else EMPTY
    marks = re.compile(rf"(<!-- part: {part} -->\n).*?(<!-- end -->)", re.DOTALL)
    RESULTS.write_text(marks.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page))


if __name__ == "__main__":
    main()
