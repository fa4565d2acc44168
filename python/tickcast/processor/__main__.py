"""``python -m tickcast.processor``: configured by the environment, as a supervisor starts it."""

import sys

from tickcast.config import from_process_env
from tickcast.exits import guarded
from tickcast.processor import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(from_process_env())))
