"""Dead letters that are for a topic whose brokers don't answer."""

from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

from tickcast import post, urls
from tickcast.processor import deadletters
from tickcast.processor.deadletters import DeadLetter, DeadLetters, read_letters


class Batch:
    """A batch of one message that is none."""

    letters: tuple = ()

    def __init__(self, number: int) -> None:
        self.undecodable = [((0x0BADCAFE, 0, number, 0), b"?", "no tick")]


class Counting(post.KafkaPost):
    """Counts how often it is asked."""

    asked = 0

    def send(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send them."""
        self.asked += 1
        return super().send(letters)


def test_whoever_takes_no_letters_is_not_waited_for_with_each(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(post, "SEND_S", 0.2)
    monkeypatch.setattr(deadletters, "SLOW_S", 0.2)
    url = urls.parse_sink("kafka://127.0.0.1:9/letters")
    assert isinstance(url, urls.KafkaSink)
    target = Counting(url, {}, added=True)
    with DeadLetters(tmp_path / "letters", post=target) as letters:
        for number in range(3):
            letters.write(Batch(number))
        assert target.asked == 1
        monkeypatch.setattr(letters, "_away_until_s", 0.0)
        letters.write(Batch(3))
        assert target.asked == 2
    assert [letter.offset for letter in read_letters(tmp_path / "letters")] == [0, 1, 2, 3]
