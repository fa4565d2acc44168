"""Declaring rules: what is taken, and what is refused at once."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pytest

import tickcast as tc
from tickcast.errors import RuleError
from tickcast.rules import RESERVED


def fine(ticks):
    return ticks.price > 0


async def waiting(tick):
    await asyncio.sleep(0)


def test_rules_keep_the_order_of_their_declaration():
    rules = tc.RuleSet("desk", version="7")
    rules.check(reason="no")(fine)
    rules.check_each(waiting)
    rules.enrich("notional", unit="USD")(lambda ticks: ticks.price * ticks.volume)
    rules.check_each(name="again")(lambda tick: None)
    declaration = rules.declaration()
    assert declaration.label == "desk@7"
    assert [(rule.name, rule.kind, rule.asynchronous) for rule in declaration.rules] == [
        ("fine", "check", False),
        ("waiting", "check_each", True),
        ("notional", "enrich", False),
        ("again", "check_each", False),
    ]
    assert [(column.name, column.unit) for column in declaration.enrichments] == [("notional", "USD")]


def test_decorators_return_the_function_itself():
    rules = tc.RuleSet("desk")
    assert rules.check(reason="no")(fine) is fine
    assert rules.check_each(waiting) is waiting


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_enrichment_takes_a_key_of_the_trade(name):
    with pytest.raises(RuleError, match=f"'{name}' is a key of the trade"):
        tc.RuleSet("desk").enrich(name)(fine)
    with pytest.raises(RuleError, match=f"'{name}' is a key of the trade"):
        tc.RuleSet("desk").adopt(waiting, enrich=[name])


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda rules: rules.check(reason="no")(fine) and rules.check(reason="no")(fine), "has a rule 'fine' already"),
        (lambda rules: rules.check(reason=""), "needs the reason"),
        (lambda rules: rules.check(reason="no")(waiting), "can't be async"),
        (lambda rules: rules.enrich("x")(waiting), "can't be async"),
        (lambda rules: rules.check_each(3), "needs a function, was 3"),
        (lambda rules: rules.check_each(lambda tick: None), "lambda needs a name"),
        (lambda rules: rules.enrich("not a name")(fine), "must be an identifier"),
        (lambda rules: rules.enrich(fine), "needs the name of its column"),
        (lambda rules: rules.adopt(waiting, enrich=["a"], vwap_as="a"), "has an enrichment 'a' already"),
    ],
)
def test_a_bad_declaration_is_refused_with_one_line_and_changes_nothing(declare, message):
    rules = tc.RuleSet("desk")
    with pytest.raises(RuleError, match=message) as caught:
        declare(rules)
    assert "\n" not in str(caught.value)
    assert len(rules.rules) <= 1
    assert rules.enrichments == ()


def test_check_without_a_reason_is_refused():
    with pytest.raises(TypeError, match="reason"):
        tc.RuleSet("desk").check()


def test_a_rule_set_needs_a_name():
    with pytest.raises(RuleError, match="needs a name"):
        tc.RuleSet("")


@dataclass
class Result:
    status: str
    reason: str | None
    vwap_20m: float
    trade_id: str
    price: float
    risk: float
    depth: int | None


class TupleResult(NamedTuple):
    status: str
    spread: float


class Engine:
    async def validate(self, tick) -> Result:
        raise NotImplementedError

    def __call__(self, tick) -> TupleResult:
        raise NotImplementedError


def test_adopt_takes_methods_objects_and_partials_and_sees_which_are_async():
    rules = tc.RuleSet("desk")
    rules.adopt(Engine().validate, enrich=())
    rules.adopt(Engine())
    rules.adopt(partial(waiting), name="bound", enrich={"alpha": "bp"})
    assert [(rule.info.name, rule.info.asynchronous) for rule in rules.rules] == [
        ("validate", True),
        ("Engine", False),
        ("bound", True),
    ]
    assert [(column.name, column.unit) for column in rules.enrichments] == [("spread", ""), ("alpha", "bp")]


def test_adopt_finds_numeric_fields_in_the_return_annotation_but_not_those_of_a_trade():
    rules = tc.RuleSet("desk")
    rules.adopt(Engine().validate, vwap_as="their_vwap")
    assert [column.name for column in rules.enrichments] == ["risk", "depth", "their_vwap"]


def test_version_is_a_hash_of_the_source_and_of_what_is_declared(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "import tickcast as tc\nrules = tc.RuleSet('v')\n@rules.check_each\ndef a(tick): return None\n"
    versions = []
    for number, text in enumerate([source, source, source + "# changed\n"]):
        (tmp_path / f"desk{number}.py").write_text(text)
        versions.append(__import__(f"desk{number}").rules.version)
    assert versions[0] == versions[1] != versions[2]
    assert len(versions[0]) == 12
    assert tc.RuleSet("x", version="1.2").version == "1.2"


def test_the_longest_lookback_is_that_of_the_set():
    rules = tc.RuleSet("memory")
    rules.check(reason="no", lookback="5m")(lambda_named("brief"))
    rules.check_each(lookback="1h30m")(lambda_named("long"))
    rules.enrich("column", lookback="90s")(lambda_named("column"))
    rules.adopt(lambda_named("adopted"), lookback="1m")
    rules.check(reason="no")(lambda_named("none"))
    minutes = [rule.lookback_ns / 60e9 for rule in rules.declaration().rules]
    assert minutes == [5, 90, 1.5, 1, 0]
    assert rules.declaration().lookback_ns == 90 * 60 * 10**9


@pytest.mark.parametrize("lookback", ["soon", "5", "", "400y"])
def test_a_lookback_that_is_no_duration_is_refused(lookback):
    with pytest.raises(RuleError, match=r"lookback of rule 'brief' must be a duration"):
        tc.RuleSet("memory").check(reason="no", lookback=lookback)(lambda_named("brief"))


def lambda_named(name):
    def function(ticks):
        return ticks.price > 0

    function.__name__ = name
    return function
