"""Fixtures for every kind of test; each lives in ``tests/fixtures``, one file a subject."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Many processors run in the tests, none of them on the default port.
os.environ["TICKCAST_GRPC_PORT"] = "0"

pytest_plugins = [
    name
    for name in (
        "fixtures.processes",
        "fixtures.chromium",
        "fixtures.wsclient",
        "fixtures.nats",
        "fixtures.kafka",
        "fixtures.grpcclient",
    )
    if find_spec(name) is not None
]
