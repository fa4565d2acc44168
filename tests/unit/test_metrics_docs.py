"""docs/metrics.md lists what the code declares: each name with its type and labels, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
# In a process of its own: prometheus_client decides at its import how values are kept.
DECLARED = """
import json, sys
from pathlib import Path
from tickcast.metrics import ProcessorMetrics, activate
activate(Path(sys.argv[1]))
from prometheus_client.metrics import MetricWrapperBase
from tickcast.gateway.metrics import Metrics
found = {}
for owner in (ProcessorMetrics(), Metrics(Path(sys.argv[1]) / "metrics")):
    values = list(vars(owner).values())
    values += [value for table in values if isinstance(table, dict) for value in table.values()]
    for metric in values:
        if isinstance(metric, MetricWrapperBase):
            described = next(iter(metric.describe()))
            suffix = "_total" if described.type == "counter" else ""
            found[described.name + suffix] = [described.type, sorted(metric._labelnames)]
print(json.dumps(found))
"""


def test_page_and_code_agree_on_every_metric(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DECLARED, tmp_path], capture_output=True, text=True, check=True)
    rows = re.findall(r"^\| `(tickcast_\w+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text("utf-8"), re.MULTILINE)
    documented = {
        name: [kind, sorted(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", labels)))] for name, kind, labels in rows
    }
    assert len(documented) == len(rows)
    assert documented == json.loads(done.stdout)


def test_every_metric_that_a_page_names_is_one() -> None:
    known = set(re.findall(r"^\| `(tickcast_\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    for page in [*PAGE.parent.glob("*.md"), PAGE.parents[1] / "README.md", PAGE.parents[1] / "CHANGELOG.md"]:
        named = set(re.findall(r"`(tickcast_[a-z_]+)", page.read_text("utf-8")))
        assert named <= known, page
