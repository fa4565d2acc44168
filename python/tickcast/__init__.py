"""A tick goes in, the quant team's Python judges it, and every screen shows the verdict within milliseconds."""

from typing import TYPE_CHECKING

from tickcast._core import __version__

if TYPE_CHECKING:
    from tickcast.rules import RuleSet, Verdicts
    from tickcast.ticks import Outcome, Tick, Ticks

__all__ = ["Outcome", "RuleSet", "Tick", "Ticks", "Verdicts", "__version__"]

_HOMES = {
    "Outcome": "tickcast.ticks",
    "RuleSet": "tickcast.rules",
    "Tick": "tickcast.ticks",
    "Ticks": "tickcast.ticks",
    "Verdicts": "tickcast.rules",
}


def __getattr__(name: str) -> object:
    # On first use: the command line and each rule worker start faster without what they don't need.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
