"""One tick can be followed: a client's `traceparent` comes back in spans from decode to delivery."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from fixtures.grpcclient import channel
from fixtures.processes import Programs
from tickcast.gateway import messages
from tickcast.gateway.control import Control
from tickcast.rundir import RunDir

pytest.importorskip("opentelemetry.sdk", reason="no OpenTelemetry: pip install 'tickcast[otel]'")

TRACED = str(Path(__file__).parents[1] / "fixtures" / "traced_processor.py")
TICK = b"\n\x04SYM1\x11\0\0\0\0\0\0Y@\x18\x05 \x01"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_a_tick_that_a_gateway_forwards_is_followed_where_it_is_judged(
    programs: Programs, tmp_path: Path
) -> None:
    spans_file, run_dir = tmp_path / "spans", tmp_path / "run"
    program = programs.python(
        *(TRACED, str(spans_file), "--run-dir", str(run_dir), "--rules", "tickcast.examples.quantlib:rules")
    )
    await asyncio.to_thread(program.expect, "ready grpc=")
    control = Control(RunDir(run_dir).control_socket, timeout_s=20.0)
    tick = {"type": "tick", "instrumentId": "SYM1", "price": 100, "volume": 5}
    for trace in ({}, {"traceparent": "no trace at all"}, {"traceparent": 7}, {"traceparent": f"00-{TRACE}-{SPAN}-01"}):
        message = messages.parse(json.dumps({**tick, **trace}))
        assert isinstance(message, messages.Tick)
        assert json.loads(await control.judge(message.payload()))["status"] == "VALID"
    await control.close()
    assert await asyncio.to_thread(program.end) == 0

    spans = {span["name"]: span for span in map(json.loads, spans_file.read_text().splitlines())}
    assert list(spans) == ["decode", "rules", "settle", "tick"]
    assert spans["tick"]["parent_id"] == f"0x{SPAN}"
    assert {spans[name]["parent_id"] for name in ("decode", "rules", "settle")} == {spans["tick"]["context"]["span_id"]}


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
