"""Prints the names of all optional parts in pyproject.toml, with commas: what a full development install has."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))["project"]
print(",".join(sorted(project.get("optional-dependencies", {}))))
