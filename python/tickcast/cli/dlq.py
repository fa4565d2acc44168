"""``dlq``: what could not be decoded, shown, and sent again."""

import datetime
from pathlib import Path

import click

from tickcast import urls
from tickcast.cli.options import COMMON, configured, read_config
from tickcast.config import Config
from tickcast.errors import ConfigError, SourceError

__all__ = ["dlq"]

SHOWN_BYTES = 2_000
AT_A_TIME = 256
FILE_HELP = "File of dead letters; none: `dead-letters.jsonl` in the run directory, also where they go to a broker."


@click.group(short_help="Dead letters: list them, show one, send them again.")
def dlq() -> None:
    """Dead letters: messages that could not be decoded, with their bytes, key, headers, position and why.

    These commands read the file. Where `dead_letters` is the URL of a broker, the letters are messages there, and the
    file holds only those that it refused.
    """


@dlq.command("list", short_help="List the dead letters.")
@configured("dead_letters", *COMMON, dead_letters=FILE_HELP)
def list_letters(**options: object) -> None:
    """List the dead letters of the file: id, time, size, whether it was sent again, and why it is one."""
    from tickcast.processor.deadletters import read_letters, redriven_ids  # noqa: PLC0415

    path = _file(read_config(options))
    redriven = redriven_ids(path)
    if not path.exists():
        click.echo(f"no dead letters: there is no {path}", err=True)
        return
    for letter in read_letters(path):
        when = datetime.datetime.fromtimestamp(letter.at_ns / 1e9, datetime.UTC).isoformat(timespec="seconds")
        state = "redriven" if letter.identity in redriven else "-"
        click.echo(f"{letter.identity}  {when}  {len(letter.payload_bytes):>9} B  {state:<8}  {letter.error}")


@dlq.command(short_help="Show one dead letter.")
@click.argument("identity", metavar="ID")
@configured("dead_letters", *COMMON, dead_letters=FILE_HELP)
def show(identity: str, **options: object) -> None:
    """Show a dead letter of the file: why it is one, where it stood, key, headers, and the beginning of its bytes."""
    from tickcast.processor.deadletters import read_letters  # noqa: PLC0415

    path = _file(read_config(options))
    for letter in read_letters(path) if path.exists() else ():
        if letter.identity == identity:
            click.echo(f"error     {letter.error}")
            click.echo(f"position  stream {letter.stream}, partition {letter.partition}, offset {letter.offset}")
            click.echo(f"key       {letter.key_bytes!r}")
            for name, value in letter.header_bytes:
                click.echo(f"header    {name}: {value!r}")
            payload = letter.payload_bytes
            more = f"… ({len(payload)} bytes)" if len(payload) > SHOWN_BYTES else ""
            click.echo(f"payload   {payload[:SHOWN_BYTES]!r}{more}")
            return
    raise ConfigError(f"ID: there is no dead letter {identity} in {path}")


@dlq.command(short_help="Send dead letters to their source again.")
@click.argument("identities", metavar="[ID]...", nargs=-1)
@click.option("--to", metavar="URL", help="Topic or subject to send them to; none: the source's.")
@configured("source", "dead_letters", *COMMON, dead_letters=FILE_HELP)
def redrive(identities: tuple[str, ...], to: str | None, **options: object) -> None:
    """Send dead letters of the file to their source again, with key and headers: these, or all not sent yet.

    They come back as new messages, with new positions. What has been sent is remembered beside the file.
    """
    from tickcast.post import open_target  # noqa: PLC0415
    from tickcast.processor.deadletters import read_letters, redriven_ids, remember_redriven  # noqa: PLC0415

    config = read_config(options)
    path = _file(config)
    target = to or config.source
    if target is None:
        raise ConfigError("source: say where they are to be sent, with --source or --to")
    done = redriven_ids(path)
    # A processor that was killed may have kept a letter twice.
    found = {letter.identity: letter for letter in read_letters(path)} if path.exists() else {}
    letters = [letter for identity, letter in found.items() if identity not in done]
    if identities:
        missing = set(identities) - {letter.identity for letter in letters}
        if missing:
            raise ConfigError(f"ID: no dead letter to be sent: {', '.join(sorted(missing))}")
        letters = [letter for letter in letters if letter.identity in identities]
    url = urls.parse_source(target)
    letters = [letter.alone(getattr(url, "format", None)) for letter in letters]
    post = open_target(url, config.kafka_options, added=False)
    sent = 0
    try:
        for at in range(0, len(letters), AT_A_TIME):
            some = letters[at : at + AT_A_TIME]
            refused = {letter.identity for letter in post.send(some)}
            remember_redriven(path, [letter.identity for letter in some if letter.identity not in refused])
            sent += len(some) - len(refused)
    finally:
        post.close()
    click.echo(f"{sent} of {len(letters)} dead letters sent to {urls.mask(target)}")
    if sent < len(letters):
        raise SourceError(f"{len(letters) - sent} dead letters were refused and stay")


def _file(config: Config) -> Path:
    """Return the file of dead letters; say so where most of them are elsewhere."""
    target = config.dead_letters
    if target and urls.is_dead_letter_url(target):
        click.echo(f"tickcast: dead letters go to {urls.mask(target)}; here are only those that it refused", err=True)
    return config.dead_letters_path
