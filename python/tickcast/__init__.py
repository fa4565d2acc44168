"""A tick goes in, the quant team's Python judges it, and every screen shows the verdict within milliseconds."""

from tickcast._core import __version__

__all__ = ["__version__"]
