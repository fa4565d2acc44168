"""The gateway's metrics: counted in Rust by the pump, published here once a second, summed over processes.

Values live in memory-mapped files under ``<run-dir>/metrics``, one set per process. prometheus_client decides at its
import whether it works that way, so the variable that says so is set before.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tickcast._core import AGE_BUCKETS_MS

__all__ = ["Metrics", "render"]

_PREFIX = "tickcast_gateway"
_COUNTERS = {
    "frames": "Messages sent.",
    "bytes": "Bytes of those messages, before WebSocket framing.",
    "trades": "Trades delivered, each client counted.",
    "gaps": "Gaps announced.",
    "gap_trades": "Sequences in announced gaps.",
    "overruns": "Clients that the writer of the tape overtook.",
    "dropped": "Trades that clients of the plain form lost because they fell behind.",
    "evicted": "Clients cut off because they took nothing any more.",
    "not_done": "Turns at which a client had not taken what it got before.",
    "steps": "Steps of the pump, one cohort each.",
}
_SECONDS = {
    "busy_ns": ("busy_seconds", "Time that the pump spent in steps."),
    "gil_ns": ("interpreter_seconds", "Time for which the pump held the interpreter."),
}


class Metrics:
    """This process's share."""

    def __init__(self, directory: Path) -> None:
        prometheus = _prometheus(directory)
        registry = prometheus.CollectorRegistry()
        self._last: dict[str, int] = {}
        self._ages: dict[str, tuple[Sequence[int], float]] = {}
        self._counters = {
            name: prometheus.Counter(f"{_PREFIX}_{name}", text, registry=registry) for name, text in _COUNTERS.items()
        } | {
            name: prometheus.Counter(f"{_PREFIX}_{shown}", text, registry=registry)
            for name, (shown, text) in _SECONDS.items()
        }
        gauge = prometheus.Gauge
        self._clients = gauge(
            f"{_PREFIX}_clients", "Clients now.", ["form"], registry=registry, multiprocess_mode="livesum"
        )
        self._direct = gauge(
            f"{_PREFIX}_direct_clients",
            "Clients now whose sockets are written to past the server while they keep up.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._cycle = gauge(
            f"{_PREFIX}_cycle_seconds", "Length of the pump's cycle.", registry=registry, multiprocess_mode="livemax"
        )
        self._hold = gauge(
            f"{_PREFIX}_interpreter_hold_seconds_max",
            "Longest hold of the interpreter by the pump.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._latency = prometheus.Histogram(
            f"{_PREFIX}_latency_seconds",
            "Age of a trade when it was sent: since its ingest, since its own time.",
            ["since"],
            registry=registry,
            buckets=[ms / 1e3 for ms in AGE_BUCKETS_MS],
        )

    def publish(self, stats: Mapping[str, Any]) -> None:
        """Add what the pump counted since the last call."""
        for name, counter in self._counters.items():
            more = stats[name] - self._last.get(name, 0)
            self._last[name] = stats[name]
            counter.inc(more / 1e9 if name in _SECONDS else more)
        self._clients.labels("plain").set(stats["plain_clients"])
        self._clients.labels("v1").set(stats["v1_clients"])
        self._direct.set(stats["direct_clients"])
        self._cycle.set(stats["cycle_us"] / 1e6)
        self._hold.set(stats["gil_longest_ns"] / 1e9)
        for since in ("ingest", "event"):
            self._observe(since, stats[f"since_{since}"])

    def _observe(self, since: str, ages: Mapping[str, Any]) -> None:
        counts, sum_ms = ages["counts"], ages["sum_ms"]
        before, before_ms = self._ages.get(since, ([0] * len(counts), 0.0))
        self._ages[since] = (counts, sum_ms)
        child = self._latency.labels(since)
        # The pump has sorted them into the same buckets; `observe` would take them one by one.
        for bucket, count, last in zip(child._buckets, counts, before, strict=True):
            if count != last:
                bucket.inc(count - last)
        child._sum.inc((sum_ms - before_ms) / 1e3)


def render(directory: Path) -> bytes:
    """Return the metrics of all processes of a run directory in Prometheus' text format."""
    prometheus = _prometheus(directory)
    from prometheus_client import multiprocess  # noqa: PLC0415  # after the variable is set

    _forget_the_dead(directory)
    registry = prometheus.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    text: bytes = prometheus.generate_latest(registry)
    return text


def _prometheus(directory: Path) -> Any:  # noqa: ANN401  # a module
    directory.mkdir(mode=0o700, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    import prometheus_client  # noqa: PLC0415  # after the variable is set

    return prometheus_client


def _forget_the_dead(directory: Path) -> None:
    """Remove the live gauges of processes that were killed: nobody else would, and they would count for ever."""
    for path in directory.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
