"""Metrics of several processes, summed, and without those that were killed."""

import subprocess
import sys
from pathlib import Path

PUBLISH = """
import sys, time
from pathlib import Path
from tickcast.gateway.metrics import Metrics
from tickcast._core import AGE_BUCKETS_MS
stats = {name: 0 for name in ("frames bytes trades gaps gap_trades overruns dropped evicted not_done steps busy_ns"
         " gil_ns gil_longest_ns cycle_us plain_clients v1_clients direct_clients").split()}
none = {"counts": [0] * (len(AGE_BUCKETS_MS) + 1), "sum_ms": 0.0}
metrics = Metrics(Path(sys.argv[1]))
metrics.publish(stats | {"since_ingest": none, "since_event": none, "frames": 3, "v1_clients": 4, "busy_ns": 10**9})
some = {"counts": [2, 1] + [0] * (len(AGE_BUCKETS_MS) - 2) + [1], "sum_ms": 12_003.5}
metrics.publish(stats | {"since_ingest": some, "since_event": none, "frames": 5, "v1_clients": 4, "busy_ns": 2 * 10**9})
print("published", flush=True)
sys.stdin.read()
"""
RENDER = (
    "import sys; from pathlib import Path; from tickcast.gateway.metrics import render;"
    "print(render(Path(sys.argv[1])).decode())"
)


def publisher(directory: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "published\n"
    return process


def rendered(directory: Path) -> dict[str, float]:
    text = subprocess.run([sys.executable, "-c", RENDER, str(directory)], capture_output=True, text=True, check=True)
    lines = [line.rpartition(" ") for line in text.stdout.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_processes_are_summed_and_the_dead_have_no_clients(tmp_path):
    first, second = publisher(tmp_path), publisher(tmp_path)
    values = rendered(tmp_path)
    assert values["tickcast_gateway_frames_total"] == 10
    assert values["tickcast_gateway_busy_seconds_total"] == 4
    assert values['tickcast_gateway_clients{form="v1"}'] == 8
    latency = 'tickcast_gateway_latency_seconds_{}{{since="ingest"}}'.format
    assert values[latency("count")] == 8
    assert values[latency("sum")] == 2 * 12.0035
    assert values['tickcast_gateway_latency_seconds_bucket{le="0.001",since="ingest"}'] == 4
    assert values['tickcast_gateway_latency_seconds_bucket{le="0.002",since="ingest"}'] == 6
    assert values['tickcast_gateway_latency_seconds_bucket{le="10.0",since="ingest"}'] == 6
    second.kill()
    second.wait()
    values = rendered(tmp_path)
    assert values['tickcast_gateway_clients{form="v1"}'] == 4
    assert values["tickcast_gateway_frames_total"] == 10, "what was done stays done"
    first.communicate("")
