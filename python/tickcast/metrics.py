"""The processor's metrics, in memory-mapped files of the run-dir; a gateway sums them with its own.

prometheus-client's multi-process mode does the sharing. It decides how values are kept when it is first imported,
so `activate` comes before anything that imports it.
"""

import os
from pathlib import Path

__all__ = ["ProcessorMetrics", "activate"]


def activate(run_dir: Path) -> None:
    """Keep this process's metrics in ``run_dir/metrics``.

    Raises:
        OSError: The folder can't be made.
    """
    folder = run_dir / "metrics"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


class ProcessorMetrics:
    """What the processor counts. Made once per process, after `activate`."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415 (see the module's docstring)

        self.ticks = Counter("tickcast_ticks_total", "Ticks decoded")
        self.trades = Counter("tickcast_trades_total", "Trades put on the tape", ["status"])
        self.undecodable = Counter("tickcast_undecodable_total", "Payloads or elements sent to the dead letters")
        self.late = Counter("tickcast_late_total", "Ticks judged without what the window had let go")
        self.stamped = Counter("tickcast_stamped_total", "Live ticks stamped on arrival")
        self.lost = Counter("tickcast_source_lost_total", "Messages that the source lost and can't give again")
        self.client_ticks = Counter("tickcast_client_ticks_total", "Ticks of clients judged beside the stream")
        self.rpc_streams = Counter("tickcast_grpc_streams_total", "Streams of ticks taken over gRPC")
        self.rpc_ticks = Counter("tickcast_grpc_ticks_total", "Ticks taken over gRPC")
        self.source_live = Gauge(
            "tickcast_source_live", "1 while the source is connected", multiprocess_mode="mostrecent"
        )
        self.source_lag = Gauge(
            "tickcast_source_lag",
            "Messages of a partition behind what was read; NaN: not known, or read elsewhere",
            ["partition"],
            multiprocess_mode="mostrecent",
        )
        self.tape_head = Gauge("tickcast_tape_head", "Last sequence on the tape", multiprocess_mode="mostrecent")
        self.window_held = Gauge("tickcast_window_held", "Ticks held by the windows", multiprocess_mode="mostrecent")
        self.window_bytes = Gauge("tickcast_window_bytes", "Memory of the windows", multiprocess_mode="mostrecent")
        self.window_restored = Gauge(
            "tickcast_window_restored",
            "Ticks that the windows were filled with at the start",
            ["origin"],
            multiprocess_mode="mostrecent",
        )
        self.window_missing = Gauge(
            "tickcast_window_missing",
            "Trades between checkpoint and tape that neither had at the start; -1: not known",
            multiprocess_mode="mostrecent",
        )
        self.window_restored_age = Gauge(
            "tickcast_window_restored_age_seconds", "Age of the checkpoint at the start", multiprocess_mode="mostrecent"
        )
        self.checkpoint_age = Gauge(
            "tickcast_window_checkpoint_age_seconds",
            "Time since the last checkpoint of the windows was begun",
            multiprocess_mode="mostrecent",
        )
        self.checkpoint_step = Gauge(
            "tickcast_window_checkpoint_step_seconds",
            "Longest time that a step of a checkpoint kept the judge",
            multiprocess_mode="mostrecent",
        )
        self.sink_lag = Gauge(
            "tickcast_sink_lag", "Trades a sink has yet to confirm", ["sink"], multiprocess_mode="mostrecent"
        )
        self.sink_lost = Counter(
            "tickcast_sink_lost_total", "Trades that a sink did not take in time, or refused for good", ["sink"]
        )
        self.sink_up = Gauge(
            "tickcast_sink_up", "1 while the sink takes trades", ["sink"], multiprocess_mode="mostrecent"
        )
        self.rule_calls = Counter("tickcast_rule_calls_total", "Calls of a rule", ["rule"])
        self.rule_rows = Counter("tickcast_rule_rows_total", "Ticks given to a rule", ["rule"])
        self.rule_raised = Counter("tickcast_rule_raised_total", "Ticks on which a rule raised", ["rule"])
        self.rule_rejects = Counter(
            "tickcast_rule_rejects_total", "Ticks that a rule refused; in shadow: would have", ["rule", "mode"]
        )
        self.rule_seconds = Counter("tickcast_rule_seconds_total", "Time in a rule", ["rule"])
        self.breakers_open = Gauge(
            "tickcast_breakers_open", "Breakers that are not closed", ["rule"], multiprocess_mode="mostrecent"
        )
        self.worker_respawns = Counter("tickcast_rule_worker_respawns_total", "Rule workers replaced")
        self.judging = Histogram(
            "tickcast_judging_seconds",
            "From a batch's last arrival to the tape",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
