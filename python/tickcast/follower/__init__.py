"""A tape that is written from trades judged elsewhere, such as on a remote processor's tape."""

from typing import TYPE_CHECKING

from tickcast import urls
from tickcast.config import Config
from tickcast.errors import ConfigError

if TYPE_CHECKING:
    from tickcast.follower.base import TradeSource

__all__ = ["follows", "open_trades"]


def follows(config: Config) -> bool:
    """Tell whether the source gives judged trades, so that there is nothing to judge here."""
    return config.source is not None and (config.follow or isinstance(urls.parse_source(config.source), urls.Grpc))


def open_trades(config: Config) -> "TradeSource":
    """Return the source of trades that the configuration names.

    Raises:
        ConfigError: It is a source of ticks.
    """
    url = urls.parse_source(config.source or "")
    if isinstance(url, urls.Grpc):
        from tickcast.follower.grpc import GrpcTrades  # noqa: PLC0415 (grpc takes its time to import)
        from tickcast.rpc.link import target_of  # noqa: PLC0415

        return GrpcTrades(target_of(url))
    if config.follow and isinstance(url, urls.Kafka):
        try:
            from tickcast.follower.kafka import KafkaTrades  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise ConfigError(
                f"source: kafka:// needs an optional part: pip install 'tickcast[kafka]' ({error})"
            ) from None
        return KafkaTrades(url, config.kafka_options)
    if config.follow and isinstance(url, urls.JetStream):
        from tickcast.follower.jetstream import JetStreamTrades  # noqa: PLC0415 (as the others)

        return JetStreamTrades(url)
    raise ConfigError(f"source: {urls.mask(config.source or '')} gives ticks, not trades")
