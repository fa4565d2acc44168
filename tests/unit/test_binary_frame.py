"""The reader that `docs/protocol.md` shows, on the golden frames: records without copying, as NumPy sees them."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FRAMES = sorted((ROOT / "tests" / "golden" / "frames").glob("*.bin"))
READER = re.search(
    r"```python\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text().partition("### Records")[2], re.S
)


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_the_reader_of_the_docs_reads_the_golden_frames(path):
    expected = json.loads(path.with_suffix(".json").read_text())
    message = expected["message"]
    names = {"np": np, "struct": struct, "frame": path.read_bytes(), "enrichments": []}
    names["enrichments"] = [enrichment["name"] for enrichment in expected["hello"]["enrichments"]]
    exec(READER[1], names)
    assert (names["seq"], names["to_seq"], names["count"]) == (message["seq"], message["toSeq"], len(message["trades"]))
    assert (str(names["oldest"]), str(names["newest"])) == (expected["oldestNs"], expected["newestNs"])
    for record, trade in zip(names["trades"], message["trades"], strict=True):
        assert (str(record["time"]), str(record["volume"])) == (trade["timestampNs"], trade["volume"])
        assert record["price"] == trade["price"] or trade["price"] is None
        assert ("UNKNOWN", "VALID", "INVALID")[record["status"]] == trade["status"]
        if record["instrument"] != 0xFFFFFFFF:
            assert expected["instruments"][record["instrument"]] == trade["instrumentId"]
        if 0 < record["reason"] < 0xFFFF:
            assert expected["reasons"][record["reason"] - 1] == trade["reason"]


def test_there_are_golden_frames():
    assert len(FRAMES) >= 7
