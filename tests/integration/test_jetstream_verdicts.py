"""Whoever goes on with a JetStream stream without its own tape takes what was judged from the stream of trades."""

import asyncio
import shutil
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.nats import NatsServer
from fixtures.processes import Program, Programs, wait_until
from fixtures.ticks import as_proto, make_ticks
from fixtures.verdicts import RULES, TICKS, check_vwaps, rules_asked, trades_in
from tickcast._core import TapeReader

CUT = 2000

pytestmark = pytest.mark.nats


class Desk:
    """Processors of one stream, each with a folder of its own; all write their trades to a stream, and to a file."""

    def __init__(self, server: NatsServer, programs: Programs, folder: Path) -> None:
        self._server, self._programs, self._folder = server, programs, folder
        self._address = server.url.removeprefix("nats://")
        (folder / "desk.py").write_text(RULES)

    async def prepare(self, *outputs: str) -> None:
        client = await nats.connect(self._server.url)
        for name in ("ticks", *outputs):
            await client.jetstream().add_stream(StreamConfig(name=name.upper(), subjects=[f"{name}.>", name]))
        await client.close()

    async def publish(self, ticks: list) -> None:
        client = await nats.connect(self._server.url)
        context = client.jetstream()
        for start in range(0, len(ticks), 200):
            some = ticks[start : start + 200]
            await asyncio.gather(*(context.publish("ticks", as_proto(tick)) for tick in some))
        await client.close()

    def start(
        self,
        rules: str,
        output: str,
        *,
        name: str = "one",
        form: str = "json",
        durable: bool = True,
        tape: str = "64MiB",
    ) -> Program:
        source = f"jetstream://{self._address}/ticks{'?durable=desk' if durable else ''}"
        sinks = ("--sink", f"jetstream://{self._address}/{output}?format={form}")
        sinks += ("--sink", f"jsonl:{self._folder}/{name}.jsonl")
        settings = ("--set", f"tape.bytes={tape}", "--set", "tape.max_instruments=64")
        settings += ("--set", "grpc.port=0", "--set", "log_level=info")
        flags = ("--source", source, *sinks, "--rules", rules, "--run-dir", str(self.run_dir(name)), *settings)
        return self._programs.tickcast("process", *flags, cwd=self._folder)

    def run_dir(self, name: str = "one") -> Path:
        return self._folder / name

    def trades(self, name: str = "one") -> list[dict]:
        return trades_in(self._folder / f"{name}.jsonl")

    async def judge_and_forget(self, ticks: list, form: str = "json") -> None:
        """Have the first ticks judged by a processor, whose tape is lost afterwards."""
        await self.publish(ticks)
        program = self.start("desk:odd", "out", form=form)
        await self.until(len(ticks))
        assert program.end() == 0
        shutil.rmtree(self.run_dir())

    async def until(self, count: int, name: str = "one") -> list[dict]:
        """Wait until a processor's file has so many trades, and return them."""
        await asyncio.to_thread(wait_until, lambda: len(self.trades(name)) >= count, f"{count} trades of {name}")
        found = self.trades(name)
        assert len(found) == count
        return found


@pytest.fixture
def desk(nats_server: NatsServer, programs: Programs, tmp_path: Path) -> Desk:
    return Desk(nats_server, programs, tmp_path)


@pytest.mark.parametrize("form", ["json", "proto", "proto-batch"])
@pytest.mark.parametrize("output", ["out", "out.*"])
async def test_without_a_tape_the_windows_hold_what_went_out(desk: Desk, form: str, output: str) -> None:
    await desk.prepare("out")
    await desk.publish(TICKS[:CUT])
    program = desk.start("desk:odd", output, form=form)
    await desk.until(CUT)
    assert program.end() == 0
    shutil.rmtree(desk.run_dir())
    await desk.publish(TICKS[CUT:])
    program = desk.start("desk:every", output, form=form)
    trades = await desk.until(len(TICKS))
    rest = len(TICKS) - CUT
    asked = await asyncio.to_thread(wait_until, lambda: rules_asked(desk.run_dir(), rest), "the rules were asked")
    assert program.end() == 0, program.errors

    assert asked == rest, "rules were asked again about what was judged before"
    assert any("read for the verdicts" in line for line in program.errors), program.errors
    assert {trade["status"] for trade in trades[:CUT]} == {"VALID", "INVALID"}
    assert {trade["status"] for trade in trades[CUT:]} == {"VALID"}
    check_vwaps(trades)


async def test_a_processor_that_comes_back_with_an_old_tape_learns_what_another_judged(desk: Desk) -> None:
    await desk.prepare("out")
    for name, ticks, count in (
        ("one", TICKS[:1000], 1000),
        ("two", TICKS[1000:2000], 1000),
        ("one", TICKS[2000:2500], 1500),
    ):
        await desk.publish(ticks)
        # What it would say now of the ticks in between does not count.
        program = desk.start("desk:odd" if count == 1000 else "desk:every", "out", name=name)
        await desk.until(count, name)
        assert program.end() == 0, program.errors
    trades = [*desk.trades("one"), *desk.trades("two")]
    assert len({trade["tradeId"] for trade in trades}) == len(trades) == 2500
    check_vwaps(trades)


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "by-time"])
async def test_a_tape_that_is_shorter_than_the_windows_is_no_loss_to_them(desk: Desk, durable: bool) -> None:
    ticks = make_ticks(40_000)
    cut = len(ticks) - 2000
    await desk.prepare("out", "undisturbed")
    await desk.publish(ticks[:cut])
    program = desk.start("desk:odd", "out", durable=durable, tape="3MiB")
    await desk.until(cut)
    assert program.end() == 0, program.errors
    tape = TapeReader.open(desk.run_dir())
    assert tape.head - tape.oldest < cut * 2 // 9, "20 of the 90 minutes are more"
    await desk.publish(ticks[cut:])
    program = desk.start("desk:odd", "out", durable=durable, tape="3MiB")
    trades = await desk.until(len(ticks))
    assert program.end() == 0, program.errors
    assert any("filled from the log" in line for line in program.errors), program.errors
    program = desk.start("desk:odd", "undisturbed", durable=False, name="two")
    assert trades == await desk.until(len(ticks), "two")
    assert program.end() == 0


async def test_what_is_not_in_the_stream_of_trades_is_judged_again(desk: Desk) -> None:
    await desk.prepare("out", "other")
    await desk.judge_and_forget(TICKS[:300])
    await desk.publish(TICKS[300:400])
    program = desk.start("desk:odd", "other")
    trades = await desk.until(400)
    assert program.end() == 0
    check_vwaps(trades)


async def test_a_stream_of_trades_that_cannot_be_read_stops_nothing(desk: Desk) -> None:
    await desk.prepare("out")
    await desk.judge_and_forget(TICKS[:300])
    await desk.publish(TICKS[300:400])
    program = desk.start("desk:odd", "nowhere")
    trades = await desk.until(400)
    assert any("judged again" in line and "nowhere" in line for line in program.errors), program.errors
    program.kill()
    check_vwaps(trades)
