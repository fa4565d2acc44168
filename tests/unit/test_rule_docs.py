"""The code in docs/rules.md runs."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_examples_of_the_docs_run():
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    names = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert names["verdicts"].status.tolist() == [1, 2]
