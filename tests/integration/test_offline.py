"""`tickcast replay`: same input, same rules, same bytes, whatever the batches and workers."""

import json

import pytest

from fixtures.recorded import made_rows, write_csv
from fixtures.serving import run_tickcast

RULES = """
import numpy as np
import tickcast as tc

rules = tc.RuleSet("desk")

@rules.check(reason="Too far from the 20-minute VWAP")
def near_vwap(ticks):
    return ~(np.abs(ticks.price / ticks.vwap_20m - 1) >= 0.001)

@rules.check_each
def odd(tick):
    if tick.volume % 101 == 0:
        raise ValueError(f"odd volume {tick.volume}")
    return None

@rules.enrich("notional")
def notional(ticks):
    return ticks.price * ticks.volume
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    (folder / "desk.py").write_text(RULES)
    write_csv(folder / "ticks.csv", made_rows(3000, seed=11))
    return folder


def replay(folder, *args, **env):
    env = {f"TICKCAST_JUDGE_{name.upper()}": str(value) for name, value in env.items()}
    done = run_tickcast("replay", "ticks.csv", "--rules", "desk:rules", "--output", "-", *args, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def reference(folder):
    return replay(folder, rule_workers=0).stdout


@pytest.mark.parametrize(
    ("rows", "workers", "in_flight"), [(1, 0, 1), (7, 0, 8), (7, 1, 8), (300, 2, 3), (65_535, 2, 1)]
)
def test_batches_and_workers_do_not_show(folder, reference, rows, workers, in_flight):
    assert replay(folder, batch_rows=rows, rule_workers=workers, in_flight=in_flight).stdout == reference


def test_trades_are_complete_and_of_every_kind(reference):
    trades = [json.loads(line) for line in reference.splitlines()]
    assert len(trades) == 3000
    reasons = {t.get("reason", "").split(":")[0] for t in trades}
    assert {"", "Too far from the 20-minute VWAP", "Price out of acceptable range", "Processing error"} <= reasons
    assert all(("notional" in t) == ("vwap20m" in t) == (t["status"] == "VALID") for t in trades)
    assert len({t["tradeId"] for t in trades}) == 3000


def test_csv_output_says_the_same(folder, reference):
    import csv

    rows = list(csv.DictReader(replay(folder, "--format", "csv", rule_workers=0).stdout.decode().splitlines()))
    trades = [json.loads(line) for line in reference.splitlines()]
    assert [(r["trade_id"], r["status"], r["reason"]) for r in rows] == [
        (t["tradeId"], t["status"], t.get("reason", "")) for t in trades
    ]
    assert [float(r["vwap_20m"]) for r in rows if r["vwap_20m"]] == [t["vwap20m"] for t in trades if "vwap20m" in t]


def test_an_installed_rule_set_is_named_by_its_entry_point(folder, reference, tmp_path):
    for name in ("desk.py", "ticks.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for name in ("floor", "house"):  # found in the working directory, as an installed package is in its own
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[tickcast.rules]\n{name} = desk:rules\n")
    done = run_tickcast("replay", "ticks.csv", "--rules", "house", "--output", "-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, reference), done.stderr


def test_undecodable_rows_go_to_the_dead_letters_and_keep_their_numbers(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("instrument_id,price,volume,timestamp_ns\nAAA,1.0,1,5\nAAA,ten,1,6\nAAA,1.0,1.5,7\nAAA,2.0,2,8\n")
    letters = tmp_path / "letters.jsonl"
    done = run_tickcast("replay", path, "--output", "-", "--dead-letters", letters)
    assert done.returncode == 0
    assert [json.loads(line)["tradeId"][12:28] for line in done.stdout.splitlines()] == [f"{0:016x}", f"{3:016x}"]
    found = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [letter["offset"] for letter in found] == [1, 2]
    assert "price" in found[0]["error"]
    assert "volume" in found[1]["error"]


@pytest.mark.parametrize("configured", ["live.jsonl", "nats://127.0.0.1:1/letters"])
def test_dead_letters_of_the_configuration_are_a_processors_and_stay(tmp_path, configured):
    path = tmp_path / "bad.csv"
    path.write_text("instrument_id,price,volume,timestamp_ns\nAAA,ten,1,6\nAAA,1.0,1,7\n")
    (tmp_path / "live.jsonl").write_text("kept\n")
    done = run_tickcast("replay", path, cwd=tmp_path, env={"TICKCAST_DEAD_LETTERS": configured})
    assert done.returncode == 0, done.stderr
    assert b"undecodable 1" in done.stderr
    assert (tmp_path / "live.jsonl").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["replay", "absent.csv"], 2, "absent.csv"),
        (["replay", "desk.py", "--output", "-"], 1, "header"),
        (["replay", "ticks.csv", "--rules", "absent:rules"], 2, "absent"),
        (["replay", "ticks.csv", "--rules", "desk:absent"], 2, "absent"),
    ],
)
def test_mistakes_are_one_clear_line(folder, arguments, code, says):
    done = run_tickcast(*arguments, cwd=folder)
    assert done.returncode == code
    lines = [line for line in done.stderr.decode().splitlines() if "judged by the built-in screen" not in line]
    assert len(lines) == 1, lines
    assert says in lines[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_rules_in_shadow_change_no_trade_and_are_told_of(folder, workers):
    (folder / "shadowed.py").write_text(RULES.replace('VWAP")', 'VWAP", shadow=True)', 1))
    args = ("replay", "ticks.csv", "--output", "-", "--rule-workers", str(workers))
    live = run_tickcast(*args, "--rules", "desk:rules", cwd=folder)
    shadow = run_tickcast(*args, "--rules", "shadowed:rules", cwd=folder)
    refused = sum(b"Too far" in line for line in live.stdout.splitlines())
    assert refused > 0
    assert b"Too far" not in shadow.stdout
    assert f"in shadow, near_vwap would have refused {refused:,}".encode() in shadow.stderr
