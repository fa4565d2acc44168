"""Sources by URL: one module per scheme."""

from tickcast.config import Config
from tickcast.sources.base import Position, Source, SourceState
from tickcast import urls

__all__ = ["Position", "Source", "SourceState", "open_source"]


def open_source(config: Config) -> Source:
    """Return the source that the configuration names; it connects when it is opened.

    Raises:
        ConfigError: The URL is wrong.
        FileNotFoundError: ``replay:`` names a file that isn't there.
    """
    if config.source is None:
        from tickcast.sources.idle import IdleSource

        return IdleSource()
    url = urls.parse_source(config.source)
    match url:
        case urls.Sim():
            from tickcast.sources.sim import SimSource

            return SimSource(url)
        case urls.Replay():
            from tickcast.sources.replay import ReplaySource

            return ReplaySource(url, *scales(config, url.volume_scale))
        case urls.Nats() | urls.JetStream():
            from tickcast.sources.nats import BrokerSource

            return BrokerSource(url, *scales(config, url.volume_scale))


def scales(config: Config, of_source: int | None) -> tuple[int, dict[str, int]]:
    """Return the volume scale of all instruments, and those of single ones.

    A table of instruments leaves the others at 1; what the source's URL says goes before both.
    """
    if of_source is not None:
        return of_source, {}
    if isinstance(config.volume_scale, dict):
        return 1, config.volume_scale
    return config.volume_scale, {}
