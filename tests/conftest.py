"""Fixtures for every kind of test; each lives in ``tests/fixtures``, one file a subject."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = [
    name
    for name in ("fixtures.processes", "fixtures.chromium", "fixtures.wsclient", "fixtures.nats")
    if find_spec(name) is not None
]
