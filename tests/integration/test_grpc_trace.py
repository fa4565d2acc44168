"""One tick can be followed: a client's `traceparent` comes back in spans from decode to delivery."""

import json
from pathlib import Path

import grpc
import pytest

from fixtures.grpcclient import channel
from fixtures.processes import Programs

pytest.importorskip("opentelemetry.sdk", reason="no OpenTelemetry: pip install 'tickcast[otel]'")

TRACED = str(Path(__file__).parents[1] / "fixtures" / "traced_processor.py")
TICK = b"\n\x04SYM1\x11\0\0\0\0\0\0Y@\x18\x05 \x01"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(("publish", "third"), [("true", "tape"), ("false", "settle")])
def test_a_tick_is_followed_from_decoding_to_delivery(
    programs: Programs, tmp_path: Path, publish: str, third: str
) -> None:
    spans_file = tmp_path / "spans"
    program = programs.python(
        *(TRACED, str(spans_file), "--run-dir", str(tmp_path / "run"), "--set", f"grpc.publish={publish}"),
        *("--rules", "tickcast.examples.quantlib:rules"),
    )
    address = program.expect("ready grpc=").removeprefix("ready grpc=")

    def call(opened: grpc.Channel, *metadata: tuple[str, str]) -> None:
        answers = opened.stream_stream("/marketdata.MarketDataProcessor/ProcessStream")(
            iter([TICK] * 5), timeout=20, metadata=metadata
        )
        assert len(list(answers)) == 5

    with channel(address) as opened:
        call(opened)
        call(opened, ("traceparent", "no trace at all"))
        call(opened, ("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "desk=7"))
    assert program.end() == 0

    spans = [json.loads(line) for line in spans_file.read_text().splitlines()]
    assert spans
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{TRACE}"}
    batches = [span for span in spans if span["name"] == "ProcessStream"]
    assert {span["parent_id"] for span in batches} == {f"0x{SPAN}"}
    assert sum(span["attributes"]["tickcast.ticks"] for span in batches) == 5
    assert all("desk" in span["context"]["trace_state"] for span in batches)
    for batch in batches:
        stages = [span for span in spans if span["parent_id"] == batch["context"]["span_id"]]
        assert [span["name"] for span in stages] == ["decode", "rules", third, "deliver"]
        times = [time for span in stages for time in (span["start_time"], span["end_time"])]
        assert [batch["start_time"], *times, batch["end_time"]] == sorted(
            [batch["start_time"], *times, batch["end_time"]]
        )
    assert len(spans) == 5 * len(batches)
