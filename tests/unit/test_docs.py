"""What README and docs/ show is true: code runs, command lines and settings are taken, links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from tickcast import cli, config
from tickcast.cli.options import read_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(page, kind, text) for page in PAGES for kind, text in FENCE.findall(page.read_text("utf-8"))]


def blocks(*kinds: str) -> list[object]:
    chosen = [(page, text) for page, kind, text in BLOCKS if kind in kinds]
    return [pytest.param(text, id=f"{page.stem}-{n}") for n, (page, text) in enumerate(chosen)]


def command_lines() -> list[object]:
    lines = []
    for page, kind, text in BLOCKS:
        if kind in ("sh", "console", "bash"):
            joined = text.replace("\\\n", " ")
            lines += [(page, line.removeprefix("$ ").strip()) for line in joined.splitlines()]
    return [pytest.param(line, id=f"{page.stem}: {line}") for page, line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b[:2] == (page, "python") for b in BLOCKS)], ids=lambda p: p.name
)
def test_python_blocks_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "blocks.py"
    script.write_text("".join(text for where, kind, text in BLOCKS if (where, kind) == (page, "python")))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_rule_set_of_the_readme_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tickcast.rules import load

    text = next(text for page, kind, text in BLOCKS if page.name == "README.md" and kind == "python")
    (tmp_path / "desk_of_the_readme.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("desk_of_the_readme:rules").name == "desk"


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_block_is_a_configuration(text: str, tmp_path: Path) -> None:
    if "tool" in tomllib.loads(text) or "project" in tomllib.loads(text):
        return
    file = tmp_path / "tickcast.toml"
    file.write_text(text)
    config.load({}, file=file, env={})


@pytest.mark.parametrize("text", blocks("json"))
def test_json_block_is_json(text: str) -> None:
    for document in re.split(r"\n(?=[{\[])", text.strip()):
        json.loads(document)


@pytest.mark.parametrize("line", command_lines())
def test_command_line_is_taken(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = shlex.split(line.split(" #", maxsplit=1)[0].split(" | ", maxsplit=1)[0], comments=True)
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    if words[0] == "tickcast" and words[1:]:
        command = cli.commands.get_command(click.Context(cli.commands), words[1])
        assert command is not None, words[1]
        context = command.make_context(words[1], [word for word in words[2:] if word != "&"])
        if "settings" in context.params:
            read_config(context.params)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings], target


def test_tables_of_the_configuration_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/configuration_docs.py", "--check"], check=False)
    assert done.returncode == 0, "python scripts/configuration_docs.py writes them anew"


def test_public_text_names_no_machine_path() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "Makefile"]:
        assert not re.search(r"(?<![\w.])/(root|work|home)/", page.read_text("utf-8")), page
