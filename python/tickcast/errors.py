"""The exception tree: one root, one class for each kind of trouble a caller can act on.

Every message says what was wrong, with which value, where (source, position), and what to do.
"""

__all__ = [
    "ConfigError",
    "LinkLostError",
    "LinkRefusedError",
    "RuleError",
    "SourceError",
    "TapeBusyError",
    "TapeError",
    "TickcastError",
]


class TickcastError(Exception):
    """Root of everything that tickcast raises on purpose."""


class ConfigError(TickcastError):
    """A configuration value is wrong: names the key, the value and what is allowed. Exit code 2."""


class RuleError(TickcastError):
    """A rule set can't be loaded, or a rule is declared wrongly."""


class SourceError(TickcastError):
    """A source can't be opened or read and trying again would not help."""


class TapeError(TickcastError):
    """A tape can't be opened, read or written."""


class TapeBusyError(TapeError):
    """Another process writes this tape; the message names its pid."""


class LinkLostError(TickcastError):
    """A connection to a server could not be made, or is lost: try again, not before `retry_s` seconds."""

    def __init__(self, message: str, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class LinkRefusedError(TickcastError):
    """A server refuses, and trying again would not help."""
