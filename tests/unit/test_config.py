"""One configuration under file, environment and flags; a wrong value is refused with key, value and what is allowed."""

import contextlib
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcast import config, layers
from tickcast.config import Config, Screen, Web, Window
from tickcast.errors import ConfigError
from tickcast.units import parse_bytes, parse_duration_ns, parse_time_ns


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No tickcast.toml of the working directory gets in the way."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(flags: dict[str, object] | None = None, file: Path | None = None, **env: str) -> Config:
    return config.load(flags or {}, file=file, env=env)


def refusal(flags: dict[str, object] | None = None, file: Path | None = None, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, file, **env)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_those_of_the_contract() -> None:
    found = load()
    assert (found.web.host, found.web.port, found.web.workers) == ("127.0.0.1", 3000, 1)
    assert (found.window.window_ns, found.window.hold_ns) == (20 * 60 * 10**9, 40 * 60 * 10**9)
    assert (found.screen.id_min, found.screen.id_max) == (3, 10)
    assert (found.screen.price_min, found.screen.price_max) == (0.01, 10_000.0)
    assert found.screen.max_ahead_ns == 5 * 60 * 10**9
    assert (found.judge.deadline_ms, found.judge.policy, found.judge.concurrency) == (250, "fail-closed", 256)
    assert found.tape.bytes == 256 * 1024 * 1024


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("log_level = 'debug'\n[web]\nport = 1\nworkers = 2\nheartbeat_ms = 500\n")
    env = {"TICKCAST_WEB_PORT": "2", "TICKCAST_WEB_WORKERS": "3"}
    found = load({"web.port": "3"}, file, **env)
    assert (found.web.port, found.web.workers, found.web.heartbeat_ms, found.log_level) == (3, 3, 500, "debug")
    assert found.judge.batch_rows == 4_096


def test_file_of_the_working_directory_is_found_and_the_variable_names_another(tmp_path: Path) -> None:
    Path("tickcast.toml").write_text("[web]\nport = 1\n")
    (tmp_path / "other.toml").write_text("[web]\nport = 2\n")
    assert load().web.port == 1
    assert load(TICKCAST_CONFIG="other.toml").web.port == 2
    assert "other.tml: No such file" in refusal(TICKCAST_CONFIG="other.tml")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("TICKCAST_WINDOW_HOLD", "180m", lambda c: c.window.hold_ns == 180 * 60 * 10**9),
        ("TICKCAST_TAPE_BYTES", "1GiB", lambda c: c.tape.bytes == 2**30),
        ("TICKCAST_WEB_INSECURE_PUBLIC", "true", lambda c: c.web.insecure_public is True),
        ("TICKCAST_WEB_ORIGINS", "https://a.example, https://b.example", lambda c: len(c.web.origins) == 2),
        ("TICKCAST_SINKS", '["jsonl:/x/a,b.jsonl"]', lambda c: c.sinks == ("jsonl:/x/a,b.jsonl",)),
        ("TICKCAST_SCREEN_BANDS", '{"BTCUSD": [1, 99000]}', lambda c: c.screen.bands == {"BTCUSD": (1.0, 99_000.0)}),
        ("TICKCAST_VOLUME_SCALE", "100000000", lambda c: c.volume_scale == 10**8),
        ("TICKCAST_VOLUME_SCALE", '{"BTCUSD": 100000000}', lambda c: c.volume_scale == {"BTCUSD": 10**8}),
        ("TICKCAST_SOURCE", "", lambda c: c.source is None),
    ],
)
def test_environment_gives_every_kind_of_value(name: str, text: str, value: object) -> None:
    assert value(load(**{name: text}))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"web.port": "70000"}, ["web.port", "'70000'", "0 to 65535", "--port"]),
        ({"web.port": "x"}, ["web.port", "'x'", "--port"]),
        ({"web.workers": "0"}, ["web.workers", "1 to 64"]),
        ({"window.hold": "4 0m"}, ["window.hold", "a duration", "'4 0m'"]),
        ({"window.hold": "10m"}, ["window.hold", "at least", "20m", "10m"]),
        ({"tape.bytes": "12"}, ["tape.bytes", "from 1MiB to 1TiB", "12"]),
        ({"tape.bytes": "1 apple"}, ["tape.bytes", "a size", "'1 apple'"]),
        ({"judge.policy": "open"}, ["judge.policy", "fail-closed", "fail-open", "'open'"]),
        ({"screen.price_min": "nan"}, ["screen.price_min", "a price from", "'nan'"]),
        ({"screen.price_min": "1", "screen.price_max": "0.5"}, ["screen.price_min", "0.5"]),
        ({"screen.id_min": "20"}, ["screen.id_min", "at most", "10"]),
        ({"screen.bands": '{"ABC": [2, 1]}'}, ["screen.bands.ABC", "[2.0, 1.0]"]),
        ({"screen.bands": "{"}, ["screen.bands", "a table of instruments", "'{'"]),
        ({"volume_scale": "5"}, ["volume_scale", "power of ten", "5"]),
        ({"volume_scale": '{"ABC": 3}'}, ["volume_scale", "power of ten", "3"]),
        ({"rules": "desk:"}, ["rules", "module:attribute", "'desk:'"]),
        ({"log_level": "loud"}, ["log_level", "warning", "'loud'"]),
        ({"web.insecure_public": "maybe"}, ["web.insecure_public", "true or false", "'maybe'"]),
        ({"web.hots": "x"}, ["web.hots", "unknown key", "web.host?"]),
        ({"port": "1"}, ["port", "unknown key", "web.port?"]),
        ({"web": 3}, ["web", "a table of keys", "3"]),
        ({"run_dir": "/" + "x" * 120}, ["run_dir", "shorter", "107"]),
    ],
)
def test_wrong_value_is_refused_with_key_value_and_what_is_allowed(flags: dict[str, object], words: list[str]) -> None:
    text = refusal(flags)
    assert all(word in text for word in words), text


def test_wrong_value_of_a_variable_names_the_variable() -> None:
    assert "TICKCAST_WEB_PORT" in refusal(TICKCAST_WEB_PORT="no")


def test_wrong_value_of_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "desk.toml"
    file.write_text("[web]\nport = '3000'\n")
    text = refusal(None, file)
    assert "web.port" in text
    assert "desk.toml" in text
    file.write_text("[web\n")
    assert "desk.toml" in refusal(None, file)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nats://h/t", ["kafka://", "jetstream://"]),
        (None, ["kafka://"]),
        ("jetstream://h/t?durable=d", ["durable", "on its tape"]),
        ("kafka://h/t?volume_scale=1e8", ["volume_scale", "as they are"]),
    ],
)
def test_what_a_topic_of_trades_can_not_have_is_refused(source: str | None, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"source": source, "follow": "true"})
    assert all(word in str(refused.value) for word in words)
    assert load({"source": "kafka://h/t?start=new", "follow": "true"}).follow


def test_checkpoints_are_neither_all_the_time_nor_never() -> None:
    for pause in ("50ms", "2h"):
        with pytest.raises(ConfigError, match="from 100ms to 1h"):
            load({"window.checkpoint": pause})
    assert load({"window.checkpoint": "30s"}).window.checkpoint_s == 30.0


def test_unknown_variable_is_refused_with_the_nearest() -> None:
    assert refusal(TICKCAST_WINDOW_HOLT="180m").endswith("did you mean TICKCAST_WINDOW_HOLD?")
    load(TICKCAST_TEST_NATS_URL="nats://x", TICKCAST_SUPERVISED="1", TICKCAST_CACHE_DIR="/x")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "desk.example"])
def test_public_address_needs_a_token_or_the_word_of_the_user(host: str) -> None:
    assert "--insecure-public" in refusal({"web.host": host})
    assert load({"web.host": host, "web.insecure_public": "true"}).web.host == host
    assert load({"web.host": host, "web.auth_token": "s3cret"}).web.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_neither(host: str) -> None:
    assert load({"web.host": host}).web.host == host


def test_sections_check_themselves_without_any_layer() -> None:
    with pytest.raises(ConfigError, match=r"web\.port"):
        Web(port=-1)
    with pytest.raises(ConfigError, match=r"window\.minutes"):
        Window(minutes="20")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"screen\.max_ahead"):
        Screen(max_ahead="soon")


def test_secrets_appear_neither_in_what_is_shown_nor_in_what_is_refused() -> None:
    found, origins = layers.load(
        {"source": "nats://desk:pa55@h:1/t", "web.auth_token": "t0ken-9", "sinks": []}, file=None, env={}
    )
    shown = layers.to_toml(found, origins)
    assert "pa55" not in shown
    assert "t0ken-9" not in shown
    assert "nats://desk:***@h:1/t" in shown
    assert "pa55" not in refusal({"source": "nats://desk:pa55@h:1/t?nope=1"})
    assert "pa55" not in refusal({"source": "nats://pa55@h:1"})
    assert "t0ken" not in refusal({"web.auth_token": ["t0ken"]})


def test_paths_are_made_absolute_so_that_children_and_successors_mean_the_same(tmp_path: Path) -> None:
    found = load(
        {"run_dir": "run", "source": "replay:a.csv?pace=2", "sinks": ["jsonl:out/b.jsonl"], "dead_letters": "d.jsonl"}
    )
    assert found.run_dir == str(tmp_path / "run")
    assert found.source == f"replay:{tmp_path}/a.csv?pace=2"
    assert found.sinks == (f"jsonl:{tmp_path}/out/b.jsonl",)
    assert found.dead_letters_path == tmp_path / "d.jsonl"
    assert load({"run_dir": "run"}).dead_letters_path == tmp_path / "run" / "dead-letters.jsonl"


def test_run_dir_follows_the_environment() -> None:
    assert load(XDG_RUNTIME_DIR="/run/user/7").run_dir == "/run/user/7/tickcast/default"
    assert load().run_dir == f"/tmp/tickcast-{os.getuid()}/default"


def test_child_process_gets_the_same_configuration() -> None:
    found = load({"source": "sim://", "web.port": "0", "screen.bands": '{"ABC": [1, 2]}', "volume_scale": '{"A": 10}'})
    assert config.from_process_env(config.to_env(found)) == found
    with pytest.raises(ConfigError, match=config.PROCESS_VARIABLE):
        config.from_process_env({config.PROCESS_VARIABLE: '{"web": {"port": -1}}'})
    with pytest.raises(ConfigError, match=r"web\.host"):
        config.from_process_env({config.PROCESS_VARIABLE: '{"web": {"host": "0.0.0.0"}}'})


def test_hashes_change_with_what_a_living_child_could_not_serve_and_with_nothing_else() -> None:
    plain = load({"source": "sim://"})
    held = load({"source": "sim://", "window.hold": "180m"})
    moved = load({"source": "sim://", "web.port": "4000"})
    public = load({"source": "sim://", "web.host": "::1"})
    assert config.processor_hash(plain) != config.processor_hash(held)
    assert config.processor_hash(plain) == config.processor_hash(moved) == config.processor_hash(public)
    assert config.gateway_hash(plain) == config.gateway_hash(moved) == config.gateway_hash(held)
    assert config.gateway_hash(plain) != config.gateway_hash(public)


def test_shown_toml_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    found, origins = layers.load(
        {"source": "sim://?rate=7", "volume_scale": '{"BTC \\"x\\"": 100}', "screen.bands": '{"A.B": [1, 2]}'},
        file=None,
        env={"TICKCAST_SINKS": "jsonl:/x/y.jsonl"},
    )
    shown = layers.to_toml(found, origins)
    assert "# TICKCAST_SINKS" in shown
    assert "# --source" in shown
    file = tmp_path / "shown.toml"
    file.write_text(shown)
    assert load(None, file) == found


def test_shown_toml_has_secrets_as_comments_alone(tmp_path: Path) -> None:
    options = '{"sasl.password": "pa55", "client.id": "desk"}'
    given = {"source": "nats://desk:pa55@h/t", "web.auth_token": "t0ken", "web.port": "7", "kafka_options": options}
    file = tmp_path / "shown.toml"
    file.write_text(layers.to_toml(*layers.load(given, file=None, env={})))
    assert 'source = "nats://desk:***@h/t"  # --source; masked: fill it in, or set TICKCAST_SOURCE' in file.read_text()
    found = load(None, file)
    assert (found.source, found.web.auth_token, found.web.port, found.kafka_options) == (None, None, 7, {})


@pytest.mark.parametrize(
    "flags",
    [
        {"web.auth_token": "***"},
        {"grpc.auth_token": "***"},
        {"kafka_options": '{"sasl.password": "***"}'},
        {"source": "nats://desk:***@h/t"},
        {"source": "nats://***@h/t"},
        {"source": "kafka://h/t?sasl.password=***&group=desk"},
        {"source": "grpc://h:1?token=***"},
        {"sinks": "jetstream://desk:***@h/t"},
        {"dead_letters": "nats://***@h/t"},
    ],
)
def test_mask_is_taken_for_no_secret(flags: dict[str, str]) -> None:
    assert "is masked, as `tickcast config` shows it" in refusal(flags)


def test_every_key_has_its_line_of_documentation_and_a_variable_of_its_own() -> None:
    keys, lines = layers.all_keys(), layers.documentation()
    assert {key for key in keys if not lines.get(key, "").endswith(".")} == set()
    assert len({layers.variable(key) for key in keys}) == len(keys)
    assert set(layers.FLAGS) <= set(keys)


def test_rules_that_a_package_registers_are_found_by_whoever_runs_rules_and_two_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str) -> None:
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[tickcast.rules]\n{name} = {name}.rules:rules\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    assert layers.chosen_rules(load()) is None
    register("desk")
    assert layers.chosen_rules(load()) == "desk.rules:rules"
    register("floor")
    with pytest.raises(ConfigError, match=r"several rule sets are installed.*: desk, floor"):
        layers.chosen_rules(load())
    assert layers.chosen_rules(load({"rules": "floor"})) == "floor.rules:rules"
    assert layers.chosen_rules(load({"rules": "mine:rules"})) == "mine:rules"
    with pytest.raises(ConfigError, match=r"named 'flor' \(installed: desk, floor\)"):
        layers.chosen_rules(load({"rules": "flor"}))


@given(st.integers(0, 10**12), st.sampled_from(["ns", "us", "ms", "s", "m", "h"]))
def test_duration_is_its_number_times_its_unit_exactly(number: int, unit: str) -> None:
    unit_ns = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}[unit]
    if number * unit_ns < 2**63:
        assert parse_duration_ns(f"{number}{unit}") == number * unit_ns
    else:
        with pytest.raises(ValueError, match="292 years"):
            parse_duration_ns(f"{number}{unit}")


@given(st.decimals(0, 10**6, places=3), st.sampled_from([("KiB", 1024), ("MB", 10**6), ("GiB", 2**30)]))
def test_size_is_its_number_times_its_unit_exactly(number: Decimal, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}") == int(number * unit[1])


@given(st.text(max_size=12))
def test_no_text_breaks_a_parser_otherwise_than_by_value_error(text: str) -> None:
    for parse in (parse_duration_ns, parse_bytes, parse_time_ns):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1514887281479000000", 1514887281479000000),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T02:00:00+02:00", 0),
    ],
)
def test_time_is_ns_or_iso_8601(text: str, ns: int) -> None:
    assert parse_time_ns(text) == ns


def test_combined_duration() -> None:
    assert parse_duration_ns("1h30m") == 5_400 * 10**9
    for wrong in ("", "5", "5 s", "s", "-5s", "5sm", "1e3s", "m5"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration_ns(wrong)


@given(st.dictionaries(st.sampled_from(sorted(layers.all_keys())), st.text(max_size=8), max_size=3))
def test_whatever_the_flags_hold_is_taken_or_refused_in_one_line(flags: dict[str, str]) -> None:
    try:
        msgspec.json.encode(load(flags))
    except ConfigError as error:
        assert str(error).count("\n") == 0 or any("\n" in value for value in flags.values())
