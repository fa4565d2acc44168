"""The processor's process: `main` runs one until it is told to stop."""

from tickcast.config import Config

__all__ = ["main"]


def main(config: Config) -> None:
    """Run a processor in this process. Raises what `tickcast.processor.host.host` does."""
    from tickcast.processor.host import host  # noqa: PLC0415 (NumPy and the extension cost start-up time)

    host(config)
