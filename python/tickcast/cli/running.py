"""``serve`` and its halves ``process`` and ``gateway``, and ``demo``: what runs until it is told to stop."""

import asyncio
import importlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from tickcast import addresses, layers, urls
from tickcast.cli.options import (
    COMMON,
    GRPC,
    RULES,
    SOURCE,
    WEB,
    configured,
    read_config,
    read_config_and_origins,
    with_rules,
)
from tickcast.config import Config, to_env
from tickcast.errors import ConfigError
from tickcast.follower import follows
from tickcast.rundir import GatewayInfo, Info, ProcessorInfo, RunDir, read_announcement

__all__ = ["demo", "gateway", "process", "serve"]


@click.command(short_help="Everything on one machine: ticks in, verdicts to every client.")
@configured(*SOURCE, *RULES, *WEB, *GRPC, *COMMON)
def serve(**options: object) -> None:
    """Run everything on one machine: a supervisor, the processor with its rule workers, and the gateway.

    A line `ready web=http://HOST:PORT grpc=HOST:PORT` on stdout says that clients can come. Ctrl-C ends all of it in
    order; after a crash of any part, even of this command itself, starting it again takes up what still runs.

    \b
    Sources:  sim://?rate=5000&instruments=200&seed=1       simulated ticks
              replay:ticks.csv.gz?pace=max                  a recorded file, or a directory of Parquet files
              nats://127.0.0.1:4222/ticks                   a NATS subject
              jetstream://127.0.0.1:4222/ticks?stream=TICKS a JetStream stream
              kafka://127.0.0.1:9092/ticks?group=desk       a Kafka topic (tickcast[kafka])
    Sinks:    jsonl:trades.jsonl                            one trade a line
              kafka://127.0.0.1:9092/trades                 a Kafka topic (tickcast[kafka])
              nats://127.0.0.1:4222/trades                  a NATS subject; jetstream: a stream
              parquet:trades, arrow:trades.arrow            columns (tickcast[parquet], tickcast[arrow])
    """  # noqa: D301 (click reads the character)
    from tickcast import supervisor  # noqa: PLC0415

    config, origins = read_config_and_origins(options)
    _check_source(config)
    config = _judged_by(config, origins)
    asyncio.run(supervisor.serve(config))


@click.command(short_help="Only the processor: source, rules, tape, sinks and gRPC.")
@configured(*SOURCE, *RULES, *GRPC, "web.insecure_public", *COMMON)
def process(**options: object) -> None:
    """Run only the processor, in the foreground: source, rules, tape, sinks and the gRPC server.

    A line `ready grpc=HOST:PORT` on stdout says that it is up. Gateways of the same run directory show its trades.
    """
    config, origins = read_config_and_origins(options)
    _check_source(config)
    config = _judged_by(config, origins)
    run = RunDir.create(config.run_dir)
    _say_when_announced(run.processor_info, ProcessorInfo, lambda info: f"ready grpc={info.grpc}")
    importlib.import_module("tickcast.processor").main(config)


@click.command(short_help="Only the gateway: the tape of the run directory to web clients.")
@configured("source", *WEB, *GRPC, *COMMON)
def gateway(**options: object) -> None:
    """Run only the gateway, in the foreground: it shows the tape of the run directory to web clients.

    With a source such as `grpc://10.0.0.5:50051` it follows a processor on another machine (there: `tickcast process`):
    the same trades with the same sequences, taken up again after a lost link without a gap or a repetition. With
    `kafka://` or `jetstream://` it follows all of a topic to which any number of processors write their trades. A
    source of tickcast.toml other than grpc:// is taken for the processor's, unless `follow = true` stands beside it.

    A line `ready web=http://HOST:PORT` on stdout says that clients can come; with a source also `grpc=HOST:PORT`, where
    the tape can be followed again.
    """
    config, origins = read_config_and_origins(options)
    if config.source is not None and _is_to_follow(config, origins):
        if not isinstance(urls.parse_source(config.source), urls.Grpc | urls.Kafka | urls.JetStream):
            raise ConfigError(
                "source: a gateway shows the tape of its --run-dir, or follows another (grpc://HOST:PORT) or a topic "
                "of judged trades (kafka://, jetstream://); give a source of ticks to `tickcast process` "
                f"({origins['source']})"
            )
        from tickcast import supervisor  # noqa: PLC0415

        config = msgspec.structs.replace(config, follow=True)
        asyncio.run(supervisor.serve(_judged_by(config, origins)))
        return
    run = RunDir.create(config.run_dir)
    port = addresses.choose_port(config.web.host, config.web.port)
    web = msgspec.structs.replace(config.web, port=port)
    config = msgspec.structs.replace(config, web=web, source=None)  # it brings no processor up
    ready = f"ready web={addresses.web_url(config.web.host, port)}"
    _say_when_announced(run.gateway_info, GatewayInfo, lambda _: ready)
    os.environ.update(to_env(config))
    importlib.import_module("tickcast.gateway.__main__").main()


@click.command(short_help="See it run: simulated ticks through a real NATS server, judged by example rules.")
@click.option("--rate", type=click.FloatRange(1, 100_000), default=1_000.0, show_default=True, help="Ticks per second.")
@click.option(
    "--instruments", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Simulated instruments."
)
@click.option("--duration", metavar="DURATION", help="End by itself after this time, such as 30s; default: at Ctrl-C.")
@click.option("--open/--no-open", "open_browser", default=True, help="Open the dashboard in a browser if there is one.")
@configured(
    "rules",
    *WEB,
    *COMMON,
    rules="The rule set: `module:attribute`, or an installed one's name; none: the only installed one, else that of "
    "`tickcast.examples.quantlib`.",
)
def demo(rate: float, instruments: int, duration: str | None, open_browser: bool, **options: object) -> None:
    """Run the main job for you to see: ticks from a NATS server, judged by Python rules, on a live dashboard.

    An embedded NATS server with JetStream is started (extra `tickcast[demo]`; without it the simulator feeds the rules
    directly), simulated ticks are published to it, and `tickcast serve` judges them with the example quant library. The
    dashboard's address is printed, and every few seconds a line of rates and latency. Ctrl-C ends it all.
    """
    from tickcast import demo as demonstration  # noqa: PLC0415
    from tickcast.units import parse_duration_ns  # noqa: PLC0415

    try:
        seconds = parse_duration_ns(duration) / 1e9 if duration else None
    except ValueError as error:
        raise ConfigError(f"--duration: {error}") from None
    config = with_rules(read_config(options))
    plan = demonstration.Plan(rate=rate, instruments=instruments, duration_s=seconds, open_browser=open_browser)
    asyncio.run(demonstration.run(config, plan, own_run_dir=not _names_run_dir(options)))


def _names_run_dir(options: Mapping[str, object]) -> bool:
    return bool(options["run_dir"] or os.environ.get("TICKCAST_RUN_DIR"))


def _judged_by(config: Config, origins: Mapping[str, str]) -> Config:
    """Return the configuration with the rule set that judges: none where trades come judged.

    Raises:
        ConfigError: As `with_rules`; or a flag asks for rules where trades come judged.
    """
    if not follows(config):
        return with_rules(config)
    if origins.get("rules") == layers.FLAGS["rules"]:
        raise ConfigError(f"rules: the trades of {urls.mask(config.source or '')} are judged already (--rules)")
    return msgspec.structs.replace(config, rules=None)  # those of file and environment are others'


def _is_to_follow(config: Config, origins: Mapping[str, str]) -> bool:
    """Tell whether the source is meant for a gateway; a file is often shared with the processor, whose it then is."""
    own = (layers.FLAGS["source"], layers.variable("source"))
    return follows(config) or origins.get("source") in own


def _check_source(config: Config) -> None:
    """Refuse a recording that is not there, and say so where there is no source at all."""
    if config.source is None:
        click.echo("tickcast: no source given (--source URL): only ticks that clients send are judged", err=True)
        return
    source = urls.parse_source(config.source)
    if isinstance(source, urls.Replay) and not Path(source.path).exists():
        raise ConfigError(f"source: no file {source.path}")


def _say_when_announced(path: Path, kind: type[Info], line: Callable[[Info], str]) -> None:
    """Print a line once this process has announced itself, from a thread that does not keep it alive."""

    def watch() -> None:
        stop = threading.Event()
        while not stop.wait(0.02):
            info = read_announcement(path, kind)
            if info is not None and info.pid == os.getpid():
                print(line(info), flush=True)
                return

    threading.Thread(target=watch, name="ready", daemon=True).start()
