"""The reader that `docs/protocol.md` shows, on the golden frames: records without copying, as NumPy sees them."""

import json
import re
from pathlib import Path

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
    names: dict = {}
    exec(READER[1], names)
    enrichments = [enrichment["name"] for enrichment in expected["hello"]["enrichments"]]
    (_, count, seq, to_seq, _, oldest, newest, *_), trades = names["read"](path.read_bytes(), enrichments)
    assert (seq, to_seq, count) == (message["seq"], message["toSeq"], len(message["trades"]))
    assert (str(oldest), str(newest)) == (expected["oldestNs"], expected["newestNs"])
    for record, trade in zip(trades, message["trades"], strict=True):
        assert (str(record["time"]), str(record["volume"])) == (trade["timestampNs"], trade["volume"])
        assert record["price"] == trade["price"] or trade["price"] is None
        assert ("UNKNOWN", "VALID", "INVALID")[record["status"]] == trade["status"]
        if record["instrument"] != 0xFFFFFFFF:
            assert expected["instruments"][record["instrument"]] == trade["instrumentId"]
        if 0 < record["reason"] < 0xFFFF:
            assert expected["reasons"][record["reason"] - 1] == trade["reason"]


def test_there_are_golden_frames():
    assert len(FRAMES) >= 7
