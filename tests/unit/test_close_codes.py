"""Close codes stand in three places: the three agree."""

import re
from pathlib import Path

from tickcast.gateway.codes import CloseCode, comes_back

ROOT = Path(__file__).parents[2]


def camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def test_document_code_and_page_agree_on_names_and_numbers():
    ours = {camel(code.name): code.value for code in CloseCode}
    table = (ROOT / "docs/protocol.md").read_text().partition("## Close codes")[2].partition("\n## ")[0]
    documented = {name: int(number) for number, name in re.findall(r"^\| (\d{4}) \| (\w+) \|", table, re.MULTILINE)}
    page = (ROOT / "web/client/src/codes.ts").read_text().partition("CLOSE = {")[2].partition("}")[0]
    shown = {name: int(number) for name, number in re.findall(r"(\w+): (\d{4}),", page)}
    assert documented == ours
    assert shown == ours


def test_document_says_the_same_words_as_the_code():
    table = (ROOT / "docs/protocol.md").read_text()
    source = (ROOT / "python/tickcast/gateway/codes.py").read_text()
    for code in CloseCode:
        docstring = re.search(rf'{code.name} = {code.value}\n    """(.+)"""', source)
        assert docstring is not None, code
        assert f"| {code.value} | {camel(code.name)} | {docstring[1]} |" in table


def test_who_comes_back_is_told_by_the_hundreds():
    for code in CloseCode:
        row = re.search(
            rf"^\| {code.value} \|.*\| (\w+)[^|]*\|$", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE
        )
        assert row is not None
        assert (row[1] == "yes") == comes_back(code) == (code.value < 4500)
    assert comes_back(1006)
    assert comes_back(1001)
    assert comes_back(5000)
    assert not comes_back(4999)
