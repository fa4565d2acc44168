"""What the log says of sources and sinks that can't work, and how a setting that can never work is refused."""

import pytest

from fixtures.processes import Programs
from tickcast.processor import outages
from tickcast.processor.outages import Outages


def test_each_outage_is_told_once_and_its_end(caplog, monkeypatch):
    monkeypatch.setattr(outages, "AFTER_S", 0.0)
    noted = Outages()
    noted.note("sink a", works=True, detail="live")
    for detail in ("no broker", "still none"):
        noted.note("sink a", works=False, detail=detail)
    noted.note("sink b", works=False, detail="no disk")
    noted.note("sink a", works=True, detail="live")
    noted.note("sink a", works=True, detail="live")
    noted.note("sink a", works=False, detail="again")
    assert caplog.messages == [
        "sink a does not work: no broker",
        "sink b does not work: no disk",
        "sink a works again",
        "sink a does not work: again",
    ]


def test_what_is_mended_soon_is_not_worth_a_word(caplog):
    noted = Outages()
    noted.note("the source", works=False, detail="not connected yet")
    noted.note("the source", works=True, detail="")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("key", "flags"),
    [
        ("source", ("--source", "kafka://127.0.0.1:9/t?group=g&security.protocl=x")),
        ("sinks", ("--source", "sim://", "--sink", "kafka://127.0.0.1:9/t?security.protocl=x")),
    ],
)
def test_a_setting_that_librdkafka_does_not_know_is_refused_at_start(programs: Programs, key, flags, run_dir):
    pytest.importorskip("confluent_kafka")
    program = programs.tickcast("process", *flags, "--run-dir", str(run_dir), "--grpc-port", "0")
    assert program.wait() == 2
    assert f"{key}: kafka://127.0.0.1:9/t: " in program.errors[-1]
    assert "security.protocl" in program.errors[-1]


def test_a_file_that_a_sink_cannot_open_is_refused_at_start(programs: Programs, run_dir):
    flags = ("--source", "sim://", "--sink", "jsonl:/nowhere/x.jsonl")
    program = programs.tickcast("process", *flags, "--run-dir", str(run_dir), "--grpc-port", "0")
    assert program.wait() == 2
    said = "sinks: jsonl:/nowhere/x.jsonl: cannot be opened: /nowhere/x.jsonl: No such file or directory"
    assert program.errors[-1] == f"tickcast: error: {said}"
