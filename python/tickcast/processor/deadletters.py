"""Dead letters: what could not be decoded, kept with its bytes, key, headers, position and why.

They lie in a file of JSON lines, or go to a Kafka topic; what the topic refuses goes to the file after all. `redrive`
(`tickcast dlq redrive`) sends them to their source again.
"""

import base64
import logging
import os
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec

from tickcast import urls
from tickcast._core import Batch
from tickcast.lines import LineFile

__all__ = ["DeadLetter", "DeadLetters", "Post", "open_post", "read_letters", "redriven_ids", "remember_redriven"]

log = logging.getLogger("tickcast.processor")

SLOW_S = 5.0
AWAY_S = 30.0
"""Whoever takes no letters within the first time is not asked for the second: the source waits meanwhile."""


class DeadLetter(msgspec.Struct, rename="camel", omit_defaults=True):
    """One line of the file."""

    stream: str
    partition: int
    offset: int
    index: int
    error: str
    payload: str
    """The original bytes, base64."""
    at_ns: int
    key: str | None = None
    """The original key, base64; of NATS the subject that it came by; none: it had none."""
    headers: list[tuple[str, str | None]] = []
    """The original headers, values in base64."""
    part: bool = False
    """It is one tick of a message of several; the others have been judged."""

    @property
    def identity(self) -> str:
        """Its position as 32 hex digits, as a trade's id would have been."""
        return f"{self.stream}{self.partition:04x}{self.offset:016x}{self.index:04x}"

    @property
    def payload_bytes(self) -> bytes:
        """The original bytes."""
        return base64.b64decode(self.payload)

    @property
    def key_bytes(self) -> bytes | None:
        """The original key."""
        return None if self.key is None else base64.b64decode(self.key)

    @property
    def header_bytes(self) -> list[tuple[str, bytes | None]]:
        """The original headers."""
        return [(name, None if value is None else base64.b64decode(value)) for name, value in self.headers]

    def alone(self, stated: str | None) -> "DeadLetter":
        """Return it as a message of its own: one tick of a batch is no batch.

        Args:
            stated: Format of messages that name none; None: it is detected.
        """
        name = "tickcast-format"
        named = [value.decode("ascii", "replace") for key, value in self.header_bytes if key == name and value]
        if not self.part or (named[-1] if named else stated) != "proto-batch":
            return self
        others = [(key, value) for key, value in self.headers if key != name]
        return msgspec.structs.replace(self, headers=[*others, (name, encoded(b"proto"))])

    @property
    def error_headers(self) -> list[tuple[str, bytes | None]]:
        """What is added to the headers where a letter is a message: why, where it stood, and when."""
        position = f"{self.stream} {self.partition} {self.offset} {self.index}"
        return [
            ("tickcast.error.message", self.error.encode()),
            ("tickcast.error.position", position.encode()),
            ("tickcast.error.time", str(self.at_ns).encode()),
        ]


class Post(Protocol):
    """Takes letters somewhere else than to the file."""

    def send(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send them; return those that were refused."""

    def close(self) -> None:
        """Let go."""


class DeadLetters:
    """Keeps letters; they are safe before the position behind them is committed.

    Args:
        path: The file; appended to.
        truncate: Begin it anew.
        post: Where they go instead; what it refuses goes to the file.
    """

    def __init__(self, path: Path, *, truncate: bool = False, post: Post | None = None) -> None:
        """Open the file.

        Raises:
            OSError: It can't be opened for writing.
        """
        self._file = LineFile(path, truncate=truncate)
        self._encoder = msgspec.json.Encoder()
        self._post = post
        self._away_until_s = 0.0

    def write(self, batch: Batch) -> int:
        """Keep what of the batch could not be decoded; return how many entries that were.

        Raises:
            OSError: The disk refuses.
        """
        count, lines = self.post(batch)
        self.append(lines)
        return count

    def post(self, batch: Batch) -> tuple[int, bytes]:
        """Send what of the batch could not be decoded; return how many entries there are, and lines for the file."""
        letters = list(letters_of(batch))
        left = self._posted(letters)
        return len(letters), b"".join(self._encoder.encode(letter) + b"\n" for letter in left)

    def append(self, lines: bytes) -> None:
        """Write lines to the file, and wait until they are on the disk.

        Raises:
            OSError: The disk refuses; the file is as it was.
        """
        if lines:
            self._file.append(lines, to_disk=True)

    def _posted(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send letters where they go; return those that are for the file."""
        if self._post is None or not letters or time.monotonic() < self._away_until_s:
            return letters
        begun_s = time.monotonic()
        left = self._post.send(letters)
        if left and time.monotonic() - begun_s >= SLOW_S:
            log.warning("dead letters go to the file for %g s: what is to take them does not answer", AWAY_S)
            self._away_until_s = time.monotonic() + AWAY_S
        return left

    def close(self) -> None:
        """Close the file."""
        if self._post is not None:
            self._post.close()
        self._file.close()

    def __enter__(self) -> "DeadLetters":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def letters_of(batch: Batch) -> Iterator[DeadLetter]:
    """Return what of a batch could not be decoded."""
    for ((stream, partition, offset, index), payload, error), other in zip_longest(batch.undecodable, batch.letters):
        letter = DeadLetter(
            f"{stream:08x}", partition, offset, index, error, base64.b64encode(payload).decode(), time.time_ns()
        )
        if other is not None:
            key, headers, letter.part = other
            letter.key = encoded(key)
            letter.headers = [(name, encoded(value)) for name, value in headers]
        yield letter


def encoded(value: bytes | None) -> str | None:
    """Return bytes in base64."""
    return None if value is None else base64.b64encode(value).decode()


def read_letters(path: Path) -> Iterator[DeadLetter]:
    """Read a file of letters; what is no whole letter is left out, with a warning unless it is a torn last line.

    Raises:
        OSError: It can't be read.
    """
    decoder = msgspec.json.Decoder(DeadLetter)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    log.warning("%s, line %d is no dead letter and is left out: %s", path, number, error)


def redriven_ids(path: Path) -> set[str]:
    """Return the letters of a file that have been sent again."""
    beside = path.with_name(path.name + ".redriven")
    return set(beside.read_text("ascii").split()) if beside.exists() else set()


def remember_redriven(path: Path, identities: list[str]) -> None:
    """Note that letters of a file have been sent again.

    Raises:
        OSError: The disk refuses.
    """
    with path.with_name(path.name + ".redriven").open("a", encoding="ascii") as beside:
        beside.writelines(f"{identity}\n" for identity in identities)
        beside.flush()
        os.fsync(beside.fileno())


def open_post(target: str | None, options: dict[str, str]) -> Post | None:
    """Return what takes letters to a topic; None where they go to a file.

    Raises:
        ConfigError: The URL is wrong, or its client is not installed.
    """
    if target is None or not urls.is_dead_letter_url(target):
        return None
    from tickcast.post import open_target  # noqa: PLC0415 (brokers' clients are optional parts)

    return open_target(urls.parse_sink(target), options, added=True)
