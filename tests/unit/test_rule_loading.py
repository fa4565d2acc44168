"""Finding a rule set by name: one clear line for whatever is wrong."""

import sys

import pytest

import tickcast as tc
from tickcast.errors import RuleError
from tickcast.rules import installed, load


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_in_the_current_directory_is_found(here):
    (here / "here_desk.py").write_text("import tickcast as tc\nclass Desk: rules = tc.RuleSet('x', '1')\n")
    assert load("here_desk:Desk.rules").declaration().label == "x@1"


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        (None, "nowhere_desk:rules", "there is no module 'nowhere_desk'"),
        (None, "nowhere_desk.sub:rules", "there is no module 'nowhere_desk'"),
        ("", "bad_desk:rules", "module 'bad_desk' has no attribute 'rules'"),
        ("rules = 3", "bad_desk:rules", "expected a tickcast.RuleSet, found int"),
        ("\n\n1 / 0", "bad_desk:rules", r"bad_desk.py:3 raised ZeroDivisionError: division by zero"),
        ("import not_installed_at_all", "bad_desk:rules", r"bad_desk.py:1 raised ModuleNotFoundError: No module named"),
        ("def f(:", "bad_desk:rules", r"bad_desk.py:1 raised SyntaxError"),
        ("raise SystemExit(3)", "bad_desk:rules", r"bad_desk.py:1 raised SystemExit: 3"),
        (
            "import tickcast as tc\nrules = tc.RuleSet('x')\nrules.enrich('price')(len)",
            "bad_desk:rules",
            "bad_desk.py:3 raised RuleError: enrichment 'price' is a key",
        ),
        (None, "bad_desk", "expected module:attribute"),
        (None, ":rules", "expected module:attribute"),
        (None, "bad_desk:", "expected module:attribute"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(here, source, spec, message):
    if source is not None:
        (here / "bad_desk.py").write_text(source)
    with pytest.raises(RuleError, match=message) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    assert spec in str(caught.value)


def install(here, name, value):
    info = here / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tickcast.rules]\n{name} = {value}\n")


def test_installed_rule_sets_are_found_by_name(here):
    sys.path.insert(0, str(here))
    assert installed() == {}
    (here / "packaged.py").write_text("import tickcast as tc\nrules = tc.RuleSet('packaged', '1')\n")
    install(here, "house", "packaged:rules")
    assert installed() == {"house": "packaged:rules"}
    assert isinstance(load("house"), tc.RuleSet)
