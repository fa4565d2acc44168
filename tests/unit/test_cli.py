"""The command line as its users meet it: help everywhere, one clear line per error, exit codes 0, 2 and 1."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tickcast import cli, layers
from tickcast.cli import running
from tickcast.cli.options import read_config, read_config_and_origins

COMMANDS = ["demo", "serve", "process", "gateway", "replay", "tail", "config", "version"]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, and no setting of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in layers.all_keys():
        monkeypatch.delenv(layers.variable(name), raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Return exit code and the lines of stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tickcast", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out, err = capsys.readouterr()
    return ended.value.code, out.splitlines(), err.splitlines()


def test_help_of_the_command_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in COMMANDS:
        assert any(line.strip().startswith(command) for line in out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    for flag in ("--help", "-h"):
        code, out, err = run(capsys, command, flag)
        assert (code, err) == (0, [])
        assert out[0].startswith(f"Usage: tickcast {command}")


@pytest.mark.parametrize("command", ["serve", "config"])
def test_every_flag_names_its_variable(capsys: pytest.CaptureFixture[str], command: str) -> None:
    _, out, _ = run(capsys, command, "--help")
    text = "".join("".join(out).split())
    for key, flag in layers.FLAGS.items():
        assert flag in text
        assert layers.variable(key) in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--port", "x"], ["web.port", "'x'", "0 to 65535", "--port"]),
        (["serve", "--port", "-1"], ["web.port", "'-1'"]),
        (["serve", "--prot", "1"], ["--prot", "--port", "serve --help"]),
        (["serve", "--set", "web.prot=1"], ["web.prot", "did you mean web.port?"]),
        (["serve", "--set", "web.port"], ["--set", "KEY=VALUE"]),
        (["serve", "--config", "none.toml"], ["none.toml", "No such file"]),
        (["serve", "--source", "sim://", "--rules", "no_such.rules:rules"], ["no_such", "rules"]),
        (["serve", "--source", "sim://", "--rules", "broken.rules:rules"], ["broken", "ZeroDivisionError"]),
        (["serve", "--source", "sim://", "--rules", "desk"], ["no installed rule set", "'desk'", "desk:rules"]),
        (["replay", "here.csv", "--dead-letters", "nats://u:p@h/t"], ["--dead-letters", "a file", "u:***@h"]),
        (["replay", "here.csv", "--rules", "desk"], ["no installed rule set", "'desk'"]),
        (["serve", "--source", "grpc://h:1", "--rules", "desk:rules"], ["judged already", "--rules"]),
        (["gateway", "--source", "grpc://h:1", "--set", "rules=desk:rules"], ["judged already", "--rules"]),
        (["serve", "--source", "replay:none.csv"], ["no file", "none.csv"]),
        (["serve", "--source", "kafka://h"], ["kafka:// needs a topic"]),
        (["serve", "--sink", "paquet:x"], ["unknown scheme", "did you mean parquet:?"]),
        (["serve", "--sink", "parquet:x?rows=0"], ["rows", "'0'"]),
        (["serve", "--host", "0.0.0.0", "--source", "sim://"], ["0.0.0.0", "--insecure-public"]),
        (["process", "--source", "replay:none.csv"], ["no file", "none.csv"]),
        (["gateway", "--source", "nats://h/t"], ["source", "tickcast process"]),
        (["replay", "none.csv"], ["no file none.csv"]),
        (["replay"], ["PATH"]),
        (["replay", "here.csv", "--format", "xml"], ["jsonl", "csv", "xml"]),
        (["replay", "here.csv", "--rules", "no_such:rules"], ["no_such"]),
        (["demo", "--duration", "soon"], ["--duration", "'soon'"]),
        (["demo", "--rate", "0"], ["--rate"]),
        (["tail", "ftp://h"], ["ftp://h"]),
        (["tail", "--status", "GOOD"], ["GOOD", "invalid"]),
        (["config", "--log-level", "loud"], ["log_level", "'loud'"]),
        (["sevre"], ["sevre"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    Path("here.csv").write_text("instrument_id,price,volume,timestamp_ns\n")
    Path("broken").mkdir()
    Path("broken/__init__.py").write_text("1 / 0\n")
    code, out, err = run(capsys, *arguments)
    errors = [line for line in err if not line.startswith("tickcast: no ")]
    assert (code, out, len(errors)) == (2, [], 1), err
    assert errors[0].startswith("tickcast: error: ")
    assert all(word in errors[0] for word in words), errors


@pytest.mark.parametrize("command", ["serve", "gateway"])
def test_port_in_use_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run(capsys, command, "--port", str(port), "--run-dir", str(tmp_path / "run"))
    assert (code, out) == (2, [])
    assert err[-1] == f"tickcast: error: web.port: can't listen on 127.0.0.1:{port}: Address already in use"


def test_run_directory_that_can_not_be_made_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    code, _, err = run(capsys, "serve", "--source", "sim://", "--run-dir", "file/run")
    assert code == 2
    assert err == [f"tickcast: error: run_dir: can't use {Path.cwd()}/file/run: Not a directory"]


def test_nobody_to_tail_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "tail", "http://127.0.0.1:1")
    assert (code, out) == (1, [])
    assert err == ["tickcast: error: can't connect to ws://127.0.0.1:1/ws/marketdata: Connection refused"]


def test_config_shows_the_layers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tickcast.toml").write_text("[web]\nport = 3100\nworkers = 2\n")
    monkeypatch.setenv("TICKCAST_WEB_WORKERS", "3")
    code, out, _ = run(capsys, "config", "--rule-workers", "0", "--set", "web.auth_token=s3cret")
    assert code == 0
    assert "port = 3100  # tickcast.toml" in out
    assert "workers = 3  # TICKCAST_WEB_WORKERS" in out
    assert "rule_workers = 0  # --rule-workers" in out
    assert '# auth_token = "***"  # --set web.auth_token; masked: fill it in, or set TICKCAST_WEB_AUTH_TOKEN' in out
    code, out, _ = run(capsys, "config", "--json")
    assert json.loads("".join(out))["web"]["port"] == 3100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "version")
    assert code == 0
    assert out[0].startswith("tickcast 0.")


def test_unexpected_error_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr("tickcast.cli.showing.read_config_and_origins", explode)
    code, _, err = run(capsys, "config")
    assert (code, len(err)) == (1, 1)
    assert "ValueError: first second" in err[0]


def test_interrupt_leaves_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tickcast.cli.showing.read_config_and_origins", interrupted)
    code, _, err = run(capsys, "config")
    assert (code, err) == (130, [])


def test_reader_that_leaves_early_is_no_error() -> None:
    script = f"set -o pipefail; {sys.executable} -m tickcast config | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "flag", "variable", "follows"),
    [
        ("", None, "", False),
        ("source = 'kafka://h/ticks'", None, "", False),
        ("source = 'kafka://h/trades'\nfollow = true", None, "", True),
        ("source = 'grpc://h:1'", None, "", True),
        ("source = 'kafka://h/ticks'", "kafka://h/trades", "", True),
        ("source = 'kafka://h/ticks'", None, "jetstream://h/trades", True),
    ],
)
def test_gateway_follows_what_is_meant_for_it(
    monkeypatch: pytest.MonkeyPatch, file: str, flag: str | None, variable: str, follows: bool
) -> None:
    Path("tickcast.toml").write_text(file)
    monkeypatch.setenv("TICKCAST_SOURCE", variable)
    found, origins = read_config_and_origins({"settings": (), "config_file": None, "source": flag})
    assert running._is_to_follow(found, origins) == follows


def test_gateway_refuses_ticks_from_the_environment_as_from_a_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKCAST_SOURCE", "nats://h/t")
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that a gateway that follows nothing does not stay
        code, _, err = run(capsys, "gateway", "--port", str(taken.getsockname()[1]))
    assert (code, len(err)) == (2, 1)
    assert "tickcast process" in err[0]
    assert "TICKCAST_SOURCE" in err[0]


@pytest.mark.parametrize("command", ["list", "show", "redrive"])
def test_where_dead_letters_go_is_told_by_whoever_reads_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TICKCAST_DEAD_LETTERS", "nats://desk:pa55@h/letters")
    names = [f"{1:032x}"] if command == "show" else []
    _, _, err = run(capsys, "dlq", command, *names, "--run-dir", "run")
    assert err[0] == "tickcast: dead letters go to nats://desk:***@h/letters; here are only those that it refused"


def test_options_reach_their_keys() -> None:
    options: dict[str, object] = {
        "settings": ("judge.batch_rows=7",),
        "config_file": None,
        "source": "sim://",
        "sinks": ("jsonl:/a", "jsonl:/b"),
        "web__port": "0",
        "web__insecure_public": False,
    }
    found = read_config(options)
    assert found.sinks == ("jsonl:/a", "jsonl:/b")
    assert (found.judge.batch_rows, found.web.port, found.web.insecure_public) == (7, 0, False)
