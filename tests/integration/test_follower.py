"""A follower process behind a tape that the test writes: same epoch, same sequences, same trades.

What can't be had is a hole, and a gap of whoever reads here.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fixtures.gateway import Feed
from fixtures.processes import Program, Programs, free_port
from fixtures.tapeserver import TapeServer
from tickcast import client
from tickcast._core import TapeReader
from tickcast.client import Batch, Gap, Place

COLUMNS = [("notional", "USD")]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "far", enrichments=COLUMNS)
    yield made
    made.close()


class Near:
    """A follower in a process of its own, with its own run directory."""

    def __init__(self, programs: Programs, folder: Path, upstream: int) -> None:
        self._programs = programs
        self._command = ("process", "--source", f"grpc://127.0.0.1:{upstream}", "--grpc-port", "0")
        self.run_dir = folder / "near"
        self.program: Program | None = None
        self.url = ""

    async def start(self) -> None:
        self.program = self._programs.tickcast(*self._command, "--run-dir", str(self.run_dir))
        line = await asyncio.to_thread(self.program.expect, "ready")
        self.url = "grpc://" + line.split("grpc=")[1]

    async def end(self, number: int) -> None:
        await asyncio.to_thread(self.program.end, number)

    @property
    def tape(self) -> TapeReader:
        return TapeReader.open(self.run_dir)

    async def until(self, head: int) -> TapeReader:
        """Wait until the tape here has this head."""
        await until(lambda: (self.run_dir / "tape").exists() and self.tape.head >= head, f"{head} here")
        return self.tape

    def state(self) -> str:
        return json.loads(self.tape.board())["source"]["state"]


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not in time: {what}")


async def read(url: str, place: Place, to: int) -> list[Batch | Gap]:
    """Return what a reader gets from a place up to a sequence."""
    got: list[Batch | Gap] = []
    async with asyncio.timeout(30):
        async for item in client.subscribe(url, place=place).batches():
            got.append(item)
            if (item.last if isinstance(item, Gap) else item.last_seq) >= to:
                break
    return got


def newest(tape: TapeReader) -> dict[str, int]:
    """Return the sequence of each instrument's newest VALID trade."""
    taken = json.loads(tape.snapshot())
    return {trade["instrumentId"]: seq for trade, seq in zip(taken["trades"], taken["seqs"], strict=True)}


def assert_same(feed: Feed, near: TapeReader, first: int, last: int) -> None:
    """Compare trades, and why they were judged so; all but when they came here."""
    far = TapeReader.open(feed.run_dir)
    for seq in range(first, last + 1):
        assert near.trade(seq) == far.trade(seq)
        ours, theirs = (json.loads(tape.why(seq)) for tape in (near, far))
        assert ours.pop("stagesUs")["rules"] == theirs.pop("stagesUs")["rules"]
        assert ours == theirs


@pytest.fixture
def start(programs: Programs, tmp_path: Path) -> Callable[[int], Awaitable[Near]]:
    async def run(upstream: int) -> Near:
        near = Near(programs, tmp_path, upstream)
        await near.start()
        return near

    return run


Start = Callable[[int], Awaitable[Near]]


async def test_late_follower_gets_what_the_tape_still_has_and_newest_values_of_quiet_instruments(
    feed: Feed, start: Start
) -> None:
    feed.writer.append([("QUIET", 7.0, 1, 1, 1, None, 7.0, [70.0], 0)], 1)
    head = feed.add(20_000)
    far = TapeReader.open(feed.run_dir)
    assert far.oldest > 1
    async with TapeServer(feed.run_dir) as server:
        near = await start(server.port)
        tape = await near.until(head)
        assert tape.epoch == far.epoch
        assert far.oldest < tape.oldest < far.oldest + (head - far.oldest) // 8
        assert_same(feed, tape, head - 300, head)
        assert newest(tape) == newest(far)
        assert newest(tape)["QUIET"] == 1


async def test_follower_killed_and_started_again_goes_on_where_it_was(feed: Feed, start: Start) -> None:
    feed.add(100)
    async with TapeServer(feed.run_dir) as server:
        near = await start(server.port)
        tape = await near.until(100)
        await near.end(9)
        feed.add(150)
        await near.start()
        assert (await near.until(250)).oldest == 1
        assert not tape.superseded()
        assert_same(feed, near.tape, 1, 250)
        assert newest(near.tape) == newest(TapeReader.open(feed.run_dir))


async def test_what_was_overwritten_while_the_link_was_down_is_one_gap_as_small_as_can_be(
    feed: Feed, start: Start
) -> None:
    port = free_port()
    feed.add(100)
    async with TapeServer(feed.run_dir, port=port) as server:
        near = await start(server.port)
        await near.until(100)
    await until(lambda: near.state() == "stale", "the link is down")
    head = feed.add(20_000)
    far = TapeReader.open(feed.run_dir)
    async with TapeServer(feed.run_dir, port=port):
        tape = await near.until(head)
        feed.board()  # a processor that does not touch its board is stale itself
        await until(lambda: near.state() == "live", "the link is up")
        assert tape.epoch == far.epoch
        got = await read(near.url, Place(epoch=tape.epoch, next_seq=50), head)
        gaps = [item for item in got if isinstance(item, Gap)]
        assert len(gaps) == 1
        assert gaps[0].last < far.oldest + (head - far.oldest) // 8
        after = [seq for item in got if isinstance(item, Batch) for seq in item.seq.tolist()]
        assert after[-1] == head
        assert json.loads(tape.board())["counters"]["lost"] == gaps[0].last - 100
        assert newest(tape) == newest(far)
        assert_same(feed, tape, head - 100, head)


async def test_another_epoch_upstream_is_another_epoch_here(feed: Feed, start: Start) -> None:
    port = free_port()
    feed.add(100)
    async with TapeServer(feed.run_dir, port=port) as server:
        near = await start(server.port)
        old = await near.until(100)
    feed.close()
    other = Feed(feed.run_dir, fresh=True)
    feed.writer = other.writer
    other.add(30)
    async with TapeServer(feed.run_dir, port=port):
        await until(old.superseded, "the tape is replaced")
        tape = await near.until(30)
        assert tape.epoch == other.writer.epoch != old.epoch
        assert tape.enrichments() == []
        assert_same(other, tape, 1, 30)


async def test_a_follower_can_be_followed(feed: Feed, start: Start, programs: Programs, tmp_path: Path) -> None:
    feed.add(200)
    async with TapeServer(feed.run_dir) as server:
        near = await start(server.port)
        await near.until(200)
        far = Near(programs, tmp_path / "further", int(near.url.rpartition(":")[2]))
        await far.start()
        feed.add(50)
        tape = await far.until(250)
        assert_same(feed, tape, 1, 250)


async def test_client_ticks_are_judged_by_the_processor_that_is_followed(feed: Feed, start: Start) -> None:
    from tickcast.gateway.control import Control, JudgeError

    async def judge(payload: bytes) -> list[str]:
        return [json.dumps({"judged": json.loads(payload)})]

    feed.add(1)
    async with TapeServer(feed.run_dir, judge) as server:
        near = await start(server.port)
        await near.until(1)
        control = Control(near.run_dir / "control.sock")
        assert json.loads(await control.judge('{"price":1}')) == {"judged": {"price": 1}}
    await until(lambda: near.state() == "stale", "the link is down")
    with pytest.raises(JudgeError, match="can't be reached") as away:
        await control.judge("{}")
    assert away.value.code == "away"
    await control.close()


async def test_rules_for_trades_that_are_judged_already_are_refused(programs: Programs, tmp_path: Path) -> None:
    command = ("process", "--source", "grpc://127.0.0.1:1", "--rules", "tickcast.examples.quantlib:rules")
    program = programs.tickcast(*command, "--run-dir", str(tmp_path / "run"))
    assert await asyncio.to_thread(program.wait) == 2
    assert "judged already" in program.errors[-1]


async def test_web_clients_are_told_that_the_link_is_down_and_back_and_get_every_trade_once(
    feed: Feed, programs: Programs, tmp_path: Path
) -> None:
    port = free_port()
    feed.add(50)
    command = ("gateway", "--source", f"grpc://127.0.0.1:{port}", "--port", "0", "--grpc-port", "0")
    events: list[client.Event] = []

    def states() -> list[str]:
        return [event.state for event in events if isinstance(event, client.Status)]

    async def watch(url: str) -> None:
        note = events.append
        async for event in client.subscribe(url, from_seq=1).events():
            note(event)

    async def keep_board() -> None:
        while True:
            feed.board()
            await asyncio.sleep(0.5)

    keeping = asyncio.create_task(keep_board())
    async with TapeServer(feed.run_dir, port=port) as server:
        program = programs.tickcast(*command, "--run-dir", str(tmp_path / "near"))
        line = await asyncio.to_thread(program.expect, "ready")
        programs.adopt_children(tmp_path / "near")
        watching = asyncio.create_task(watch(line.split("web=")[1].split()[0]))
        await until(lambda: states()[-1:] == ["live"], "the link is up")
        await server.stop()
        await until(lambda: states()[-1:] == ["stale"], "clients are told that the link is down")
        feed.add(50)
    async with TapeServer(feed.run_dir, port=port):
        await until(lambda: states()[-1:] == ["live"], "clients are told that it is back")
        await until(lambda: len([e for e in events if isinstance(e, client.Trade)]) >= 100, "all trades")
    for task in (watching, keeping):
        task.cancel()
    await asyncio.gather(watching, keeping, return_exceptions=True)
    assert await asyncio.to_thread(program.end) == 0
    assert [event.seq for event in events if isinstance(event, client.Trade)] == list(range(1, 101))
    assert not [event for event in events if isinstance(event, Gap)]


@pytest.mark.parametrize(
    ("url", "settings", "scales"),
    [("?volume_scale=1000", "", {"A": 1000, "B": 1000}), ("", "volume_scale = { AAA = 100 }", {"A": 100, "B": 1})],
    ids=["url", "table"],
)
async def test_the_scale_of_volumes_is_told_wherever_the_trades_are(
    programs: Programs, tmp_path: Path, url: str, settings: str, scales: dict[str, int]
) -> None:
    volume = "0.25" if url else "7"
    rows = f"AAA,100,{volume},1700000000000000000\nBBB,100,{volume},1700000000000000001\n"
    (tmp_path / "ticks.csv").write_text(f"instrument_id,price,volume,timestamp_ns\n{rows}")
    (tmp_path / "far.toml").write_text(settings)
    source = ("--source", f"replay:{tmp_path}/ticks.csv{url}", "--config", str(tmp_path / "far.toml"))
    far = programs.tickcast("serve", *source, "--run-dir", str(tmp_path / "far"), "--port", "0", "--grpc-port", "0")
    ready = (await asyncio.to_thread(far.expect, "ready", 60)).split()
    upstream = ready[2].removeprefix("grpc=")
    near = programs.tickcast(
        "gateway", "--source", f"grpc://{upstream}", "--run-dir", str(tmp_path / "near"), "--port", "0",
        "--grpc-port", "0",
    )  # fmt: skip
    ready += (await asyncio.to_thread(near.expect, "ready", 60)).split()
    for web in (part.removeprefix("web=") for part in ready if part.startswith("web=")):
        async with httpx.AsyncClient(base_url=web) as http, asyncio.timeout(30):
            while len(found := (await http.get("/api/instruments")).json()["instruments"]) < 2:
                await asyncio.sleep(0.05)
        assert {one["instrumentId"][0]: one["volumeScale"] for one in found} == scales


async def test_gateway_takes_its_source_from_a_file(feed: Feed, programs: Programs, tmp_path: Path) -> None:
    feed.add(50)
    async with TapeServer(feed.run_dir) as server:
        # The rules are for processors with which the file is shared.
        (tmp_path / "tickcast.toml").write_text(f"source = '{server.url}'\nrules = 'no_such:rules'\n")
        command = ("gateway", "--port", "0", "--run-dir", str(tmp_path / "near"))
        program = programs.tickcast(*command, cwd=tmp_path)
        line = await asyncio.to_thread(program.expect, "ready")
        programs.adopt_children(tmp_path / "near")
        url = line.split("web=")[1].split()[0]
        got = await read(url, Place(epoch=TapeReader.open(feed.run_dir).epoch, next_seq=1), 50)
        assert await asyncio.to_thread(program.end) == 0
    assert sum(len(item) for item in got if isinstance(item, client.Batch)) == 50
