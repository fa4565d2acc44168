"""The status board: what gateways show of the processor, kept in the tape's mapping."""

import math
import os
import time
from collections.abc import Sequence

import msgspec

from tickcast._core import TapeWriter
from tickcast.config import Config
from tickcast.metrics import ProcessorMetrics
from tickcast.processor.pipeline import Pipeline
from tickcast.processor.windows import Checkpoints, Restored
from tickcast.sinks import Sink
from tickcast.sources import Lag, SourceState, stated_scale
from tickcast.urls import mask

__all__ = ["Board"]


class Board:
    """Gathers the processor's state and publishes it: on the tape as JSON, and as metrics."""

    def __init__(self, config: Config, pipeline: Pipeline, writer: TapeWriter, metrics: ProcessorMetrics) -> None:
        self._config = config
        self._pipeline = pipeline
        self._writer = writer
        self._metrics = metrics
        self._started_ns = time.time_ns()
        self._rule_figures: dict[str, tuple[int, int, int, float, int]] = {}
        self._partitions: set[str] = set()
        self._restored = Restored()
        self._respawns = 0
        self._sinks_lost: dict[str, int] = {}
        self.counters = dict.fromkeys(
            ("ticks", "valid", "invalid", "unknown", "undecodable", "late", "stamped", "lost"), 0
        )
        """Since the start of this processor."""
        self.judging_s: list[float] = []
        """From the last arrival of each batch to the tape, of those since the board was last shown."""
        self._counted = dict(self.counters)

    def breakers(self) -> object:
        """Return the breakers that are not closed, to see whether they have changed."""
        return self._pipeline.runner.state().breakers

    def tell_restored(self, restored: Restored) -> None:
        """Show what the windows were filled with at the start."""
        self._restored = restored
        self._metrics.window_restored.labels("checkpoint").set(restored.from_checkpoint)
        self._metrics.window_restored.labels("tape").set(restored.from_tape)
        self._metrics.window_missing.set(-1 if restored.missing is None else restored.missing)
        self._metrics.window_restored_age.set(restored.age_s or 0.0)

    def show(
        self,
        source: SourceState,
        lost: int,
        sinks: Sequence[Sink],
        lags: Sequence[Lag] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Put the board up."""
        self.counters["lost"] = lost
        rules = self._pipeline.runner.state()
        held, held_bytes, buckets = self._pipeline.judge.window_figures()
        board = {
            "pid": os.getpid(),
            "heartbeatNs": time.time_ns(),
            "startedNs": self._started_ns,
            "ruleSet": self._pipeline.declaration.label,
            "policy": self._config.judge.policy,
            "source": {
                "url": mask(self._config.source or ""),
                "state": source.state,
                "since": source.since,
                "detail": source.detail,
            },
            "partitions": lags,
            "sinks": [
                {"url": mask(url), "state": sink.state, "lag": sink.lag}
                for url, sink in zip(self._config.sinks, sinks, strict=True)
            ],
            "rules": rules.rules,
            "breakers": rules.breakers,
            "workers": rules.workers,
            "counters": self.counters,
            "ruleCounters": rules.counters,
            "window": {"held": held, "bytes": held_bytes, "inBuckets": buckets, **self._on_disk(checkpoints)},
            "volumeScale": stated_scale(self._config),
        }
        self._writer.set_board(msgspec.json.encode(board))
        self._count(source, lost, sinks)
        self._count_lags(lags)

    def _count_trades(self) -> None:
        """Bring up to date what every batch counts; metrics lie in files: a dozen writes were a tenth of a batch."""
        metrics, now, before = self._metrics, dict(self.counters), self._counted
        new = {name: now[name] - before[name] for name in now}
        self._counted = now
        metrics.ticks.inc(new["ticks"])
        metrics.late.inc(new["late"])
        metrics.stamped.inc(new["stamped"])
        metrics.undecodable.inc(new["undecodable"])
        metrics.lost.inc(new["lost"])
        for seconds in self.judging_s:
            metrics.judging.observe(seconds)
        self.judging_s.clear()
        for status in ("unknown", "valid", "invalid"):
            metrics.trades.labels(status).inc(new[status])

    def _count_lags(self, lags: Sequence[Lag]) -> None:
        """Bring the lags up to date; of partitions that are not read here any more nothing is known."""
        known = {lag.name: math.nan if lag.lag is None else lag.lag for lag in lags}
        self._partitions |= known.keys()
        for name in self._partitions:
            self._metrics.source_lag.labels(name).set(known.get(name, math.nan))

    def _on_disk(self, checkpoints: Checkpoints | None) -> dict[str, object]:
        """Return how the windows stand on disk, if they do."""
        if checkpoints is None:
            return {}
        age_s = time.time() - checkpoints.written_s if checkpoints.written_s else None
        if age_s is not None:
            self._metrics.checkpoint_age.set(age_s)
        self._metrics.checkpoint_step.set(checkpoints.longest_step_s)
        written = {"ageS": age_s, "longestStepMs": checkpoints.longest_step_s * 1e3, "trouble": checkpoints.trouble}
        return {"checkpoint": written, "restored": self._restored}

    def _count(self, source: SourceState, lost: int, sinks: Sequence[Sink]) -> None:
        """Bring the metrics that are kept elsewhere up to date."""
        rules = self._pipeline.runner.state()
        metrics = self._metrics
        metrics.source_live.set(source.state == "live")
        metrics.tape_head.set(self._writer.head)
        held, held_bytes, _ = self._pipeline.judge.window_figures()
        metrics.window_held.set(held)
        metrics.window_bytes.set(held_bytes)
        self._count_trades()
        respawns = sum(worker.respawns for worker in rules.workers)
        metrics.worker_respawns.inc(max(0, respawns - self._respawns))
        self._respawns = respawns
        for url, sink in zip(self._config.sinks, sinks, strict=True):
            metrics.sink_lag.labels(mask(url)).set(sink.lag)
            metrics.sink_up.labels(mask(url)).set(sink.state == "live")
            if new := sink.lost - self._sinks_lost.get(url, 0):
                metrics.sink_lost.labels(mask(url)).inc(new)
                self._sinks_lost[url] = sink.lost
        for rule in rules.rules:
            calls, rows, raised, seconds, rejects = self._rule_figures.get(rule.name, (0, 0, 0, 0.0, 0))
            metrics.rule_calls.labels(rule.name).inc(rule.calls - calls)
            metrics.rule_rows.labels(rule.name).inc(rule.rows - rows)
            metrics.rule_raised.labels(rule.name).inc(rule.raised - raised)
            metrics.rule_seconds.labels(rule.name).inc(max(0.0, rule.seconds - seconds))
            metrics.rule_rejects.labels(rule.name, rule.mode).inc(rule.rejects - rejects)
            self._rule_figures[rule.name] = (rule.calls, rule.rows, rule.raised, rule.seconds, rule.rejects)
            metrics.breakers_open.labels(rule.name).set(sum(b.rule == rule.name for b in rules.breakers))
