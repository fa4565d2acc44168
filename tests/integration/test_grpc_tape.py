"""``tickcast.v1.Tape`` over a real server, on a tape that the test writes."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from fixtures.gateway import Feed
from fixtures.tapeserver import TapeServer
from tickcast._core import FrameNames
from tickcast.errors import LinkLostError, LinkRefusedError
from tickcast.rpc import tape_pb2 as pb
from tickcast.rpc.link import AgedOutError, TapeLink, Target
from tickcast.rpc.status import detail

MIB = 1024 * 1024


@pytest.fixture
def feed(run_dir: Path) -> Iterator[Feed]:
    made = Feed(run_dir, enrichments=[("notional", "USD")])
    yield made
    made.close()


@pytest.fixture
async def server(feed: Feed, run_dir: Path) -> AsyncIterator[TapeServer]:
    async with TapeServer(run_dir, heartbeat_s=0.1) as served:
        yield served


class Reader:
    """A subscriber that takes what comes one by one."""

    def __init__(self, server: TapeServer, **request: object) -> None:
        self._link = TapeLink(Target(address=f"127.0.0.1:{server.port}"))
        self._request = pb.SubscribeRequest(**request)
        self.names = FrameNames([], [])
        self.hello = pb.Hello()
        self.kinds: list[str] = []
        self.raw: list[bytes] = []

    async def __aenter__(self) -> "Reader":
        await self._link.__aenter__()
        self.frames = self._link.frames(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.frames.aclose()
        await self._link.__aexit__()

    async def next(self, *kinds: str) -> pb.Frame:
        """Return the next frame of one of these kinds."""
        async with asyncio.timeout(20):
            while True:
                frame = await anext(self.frames)
                self.raw.append(frame.SerializeToString())
                kind = frame.WhichOneof("content")
                self.kinds.append(kind)
                if kind == "hello":
                    self.hello = frame.hello
                    self.names = FrameNames(list(frame.hello.instruments), list(frame.hello.reasons))
                if kind in kinds:
                    return frame

    async def seqs(self, count: int) -> list[int]:
        """Return the sequences of the next so many trades; ranges have to follow one another."""
        got: list[int] = []
        covered = None
        while len(got) < count:
            frame = await self.next("trades", "gap", "heartbeat")
            assert not frame.HasField("gap"), frame
            if frame.HasField("trades"):
                columns = self.names.columns(frame.trades)
                assert covered is None or columns["seq"] == covered + 1
                covered = columns["to_seq"]
                got += memoryview(columns["seqs"]).cast("Q").tolist()
            else:
                assert covered is None or frame.heartbeat.seq >= covered
                covered = frame.heartbeat.seq
        return got


async def test_subscription_begins_with_what_the_protocol_promises(server: TapeServer, feed: Feed) -> None:
    feed.add(30)
    async with Reader(server) as reader:
        snapshot = await reader.next("snapshot")
        assert reader.kinds == ["hello", "subscribed", "status", "snapshot"]
        assert (reader.hello.epoch, reader.hello.seq, reader.hello.oldest) == (feed.writer.epoch, 30, 1)
        assert [(e.name, e.unit) for e in reader.hello.enrichments] == [("notional", "USD")]
        assert reader.hello.rule_set == "desk@1a2b"
        columns = reader.names.columns(snapshot.snapshot)
        assert (columns["to_seq"], columns["instrument_id"]) == (30, ["SYM0", "SYM1", "SYM2", "SYM3", "SYM4"])
        feed.add(5)
        assert await reader.seqs(5) == [31, 32, 33, 34, 35]
        assert (await reader.next("heartbeat")).heartbeat.seq == 35


async def test_streams_of_one_subscription_share_their_frames(server: TapeServer, feed: Feed) -> None:
    made = 0
    frame_of = server.service.tape().frame

    class Counting:
        def __init__(self, feed: object) -> None:
            self._feed = feed

        def __getattr__(self, name: str) -> object:
            return getattr(self._feed, name)

        def frame(self, *arguments: object) -> object:
            nonlocal made
            made += 1
            return frame_of(*arguments)

    server.service._feed = Counting(server.service.tape())
    readers = [Reader(server, snapshot=False) for _ in range(20)]
    for reader in readers:
        await reader.__aenter__()
        await reader.next("status")
    for n in range(5):
        feed.add(10)
        for reader in readers:
            assert await reader.seqs(10) == list(range(10 * n + 1, 10 * n + 11))
    for reader in readers:
        await reader.__aexit__()
    assert made < 5 * 20 / 2


async def test_filters_leave_out_and_ranges_still_follow_one_another(server: TapeServer, feed: Feed) -> None:
    feed.add(100)
    async with (
        Reader(server, instruments=["SYM1"], from_seq=1) as one,
        Reader(server, status=[pb.STATUS_INVALID], from_seq=1) as refused,
        Reader(server, instruments=["NEW"], from_seq=1) as none,
    ):
        assert await one.seqs(20) == [n for n in range(1, 101) if n % 5 == 1]
        assert await refused.seqs(10) == list(range(10, 101, 10))
        feed.add(50)
        assert await one.seqs(10) == [n for n in range(101, 151) if n % 5 == 1]
        while (await none.next("heartbeat")).heartbeat.seq < 150:
            pass
        feed.writer.append([("NEW", 1.0, 151, 1, 1, None, 1.0, [], 0)], 1)
        assert await none.seqs(1) == [151]


async def test_ranges_of_a_sparse_subscription_follow_one_another(server: TapeServer, feed: Feed) -> None:
    """Trades that are not wanted are told by the range of the next frame, or by a heartbeat: nothing is left untold."""
    async with (
        Reader(server, instruments=["SYM3"], snapshot=False) as reader,
        Reader(server, snapshot=False) as everything,
    ):
        await reader.next("status")
        await everything.next("status")
        for n in range(1, 41):
            feed.add(1)
            assert await everything.seqs(1) == [n]  # so that the server looks between any two
        assert await reader.seqs(8) == list(range(3, 41, 5))


class Conflated(Reader):
    """A subscriber of the newest trades, who sees to it that every range adds up."""

    covered = 0
    conflated = 0
    came = 0

    async def until(self, seq: int) -> dict[str, tuple[int, float]]:
        """Read until everything up to a sequence is covered; return sequence and price of each instrument's newest."""
        newest: dict[str, tuple[int, float]] = {}
        while self.covered < seq:
            frame = await self.next("trades", "gap", "heartbeat", "subscribed")
            match frame.WhichOneof("content"):
                case "subscribed":
                    assert frame.subscribed.mode == pb.MODE_LATEST
                    self.covered = frame.subscribed.from_seq - 1
                case "heartbeat":
                    assert frame.heartbeat.seq >= self.covered
                    self.covered = frame.heartbeat.seq
                case "gap":
                    assert getattr(frame.gap, "from") == self.covered + 1
                    self.covered = frame.gap.to
                case _:
                    self._take(self.names.columns(frame.trades), newest)
        return newest

    def _take(self, columns: dict, newest: dict[str, tuple[int, float]]) -> None:
        seqs = memoryview(columns["seqs"]).cast("Q").tolist()
        assert columns["seq"] == self.covered + 1
        assert self.covered < seqs[0] <= seqs[-1] <= columns["to_seq"]
        assert len(set(columns["instrument_id"])) == len(seqs)
        self.covered = columns["to_seq"]
        self.conflated += columns["conflated"]
        self.came += len(seqs)
        prices = memoryview(columns["price"]).cast("d")
        newest |= zip(columns["instrument_id"], zip(seqs, prices, strict=True), strict=True)


@pytest.mark.parametrize("rate", [None, 10.0])
async def test_latest_gives_the_newest_of_each_instrument_and_counts_the_rest(
    server: TapeServer, feed: Feed, rate: float | None
) -> None:
    wish = {"mode": pb.MODE_LATEST, "snapshot": False} | ({} if rate is None else {"max_rate_hz": rate})
    async with (
        Conflated(server, **wish) as everything,
        Conflated(server, instruments=["SYM1"], status=[pb.STATUS_VALID], **wish) as one,
    ):
        for reader in (everything, one):
            await reader.next("status")
            reader.covered = 0
        tape = server.service.tape()
        with feed.running(4_000):
            async with asyncio.timeout(20):
                while tape.head < 4_000:
                    await asyncio.sleep(0.01)
        head = feed.writer.head
        newest = await everything.until(head)
        assert newest.keys() == {f"SYM{n}" for n in range(5)}
        assert sorted(seq for seq, _ in newest.values()) == list(range(head - 4, head + 1))
        assert everything.came + everything.conflated == head
        assert everything.conflated > everything.came
        await one.until(head)
        # SYM1 is every fifth from the first on, and none of them is a tenth, which are INVALID.
        assert one.came + one.conflated == len(range(1, head + 1, 5))
        if rate is not None:  # a second of trades, and what came while all was read
            assert everything.kinds.count("trades") < 20


async def test_latest_resumes_by_conflating_what_was_missed(server: TapeServer, feed: Feed) -> None:
    head = feed.add(3_000)
    async with Conflated(server, mode=pb.MODE_LATEST, from_seq=101) as reader:
        await reader.until(head)
        assert reader.kinds.count("trades") == 1
        assert (reader.came, reader.conflated) == (5, head - 100 - 5)
        head = feed.add(100)
        await reader.until(head)
        assert (reader.came, reader.conflated) == (10, head - 100 - 10)


async def test_streams_of_one_conflating_subscription_get_the_same_bytes(server: TapeServer, feed: Feed) -> None:
    readers = [Conflated(server, mode=pb.MODE_LATEST, snapshot=False) for _ in range(10)]
    for reader in readers:
        await reader.__aenter__()
        await reader.next("status")
    for _ in range(5):
        head = feed.add(50)
        for reader in readers:
            await reader.until(head)
    frames = [[raw for raw in reader.raw if pb.Frame.FromString(raw).HasField("trades")] for reader in readers]
    for reader in readers:
        await reader.__aexit__()
    # The first frame of each begins where it came in; then all stand at the same place.
    assert all(own[-4:] == frames[0][-4:] for own in frames)


async def test_conflating_subscriber_that_reads_slowly_skips_what_is_old(feed: Feed, run_dir: Path) -> None:
    async with (
        TapeServer(run_dir, heartbeat_s=0.1, stall_s=60.0) as server,
        Reader(server, snapshot=False) as well,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        await well.next("status")
        request = pb.SubscribeRequest(mode=pb.MODE_LATEST, snapshot=False)
        call = channel.unary_stream("/tickcast.v1.Tape/Subscribe")(request.SerializeToString())
        await call.initial_metadata()
        # Once around the tape and more, a frame at a time: what waits in the transport is all that is ever old.
        written = 0
        while written < 12 * MIB:
            written += await give(feed, well, "x" * 2_000)
        begun, covered, trades, conflated = 0, 0, 0, 0
        names = FrameNames([], [])
        async with asyncio.timeout(30):
            while covered < feed.writer.head:
                frame = pb.Frame.FromString(await call.read())
                assert not frame.HasField("gap")
                if frame.HasField("hello"):
                    names = FrameNames(list(frame.hello.instruments), list(frame.hello.reasons))
                elif frame.HasField("subscribed"):
                    begun = covered = frame.subscribed.from_seq - 1
                elif frame.HasField("trades"):
                    columns = names.columns(frame.trades)
                    assert columns["seq"] == covered + 1
                    covered = columns["to_seq"]
                    trades += len(columns["instrument_id"])
                    conflated += columns["conflated"]
        assert trades + conflated == feed.writer.head - begun


async def test_why_and_stages_come_along_where_asked_for(server: TapeServer, feed: Feed) -> None:
    feed.add(10)
    async with Reader(server, from_seq=1, why=True) as reader:
        frame = await reader.next("trades")
        assert len(frame.why) == 10 * 32
        rules = [int.from_bytes(frame.why[at : at + 2], "little") for at in range(0, 320, 32)]
        assert rules == [0] * 9 + [1]
        assert list(reader.hello.rules) == ["near_vwap"]
    async with Reader(server, from_seq=1) as plain:
        assert (await plain.next("trades")).why == b""


async def test_aged_out_position_is_a_gap_or_out_of_range(server: TapeServer, feed: Feed) -> None:
    head = feed.add(30_000)
    async with Reader(server, from_seq=7, epoch=feed.writer.epoch) as reader:
        gap = (await reader.next("gap")).gap
        assert (getattr(gap, "from"), gap.to, gap.why) == (7, head, "overrun")
        await reader.next("snapshot")
    for wish in ({"from_seq": 7}, {"from_seq": head + 2}, {"from_seq": head, "epoch": "00000000deadbeef"}):
        async with Reader(server, strict=True, **wish) as reader:
            with pytest.raises(AgedOutError) as raised:
                await reader.next("trades")
            error = raised.value
            assert (error.epoch, error.newest) == (feed.writer.epoch, head)
            assert 1 < error.oldest < head
    async with Reader(server, from_seq=head, epoch="00000000deadbeef") as reader:
        assert (await reader.next("gap")).gap.why == "epoch"


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"from_seq": 0}, "from_seq"),
        ({"epoch": "xyz"}, "epoch"),
        ({"status": [5]}, "status"),
        ({"mode": 9}, "mode"),
        ({"max_rate_hz": 0.0}, "max_rate_hz"),
        ({"instruments": ["A"] * 10_001}, "instruments"),
    ],
)
async def test_wrong_request_is_an_invalid_argument(server: TapeServer, wish: dict, word: str) -> None:
    async with Reader(server, **wish) as reader:
        with pytest.raises(LinkRefusedError, match=f"INVALID_ARGUMENT {word}"):
            await reader.next("hello")


async def test_draining_says_when_to_come_back(server: TapeServer, feed: Feed) -> None:
    feed.add(3)
    async with Reader(server) as reader:
        await reader.next("snapshot")
        server.draining.set()
        with pytest.raises(LinkLostError, match="UNAVAILABLE") as raised:
            await reader.next("gap")
        assert raised.value.retry_s == 1.0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/tickcast.v1.Tape/Snapshot")(b"")
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert detail(refused.value, error_details_pb2.RetryInfo())


async def test_rate_bounds_frames_and_loses_nothing(server: TapeServer, feed: Feed) -> None:
    async with Reader(server, from_seq=1, max_rate_hz=10.0) as reader:
        await reader.next("status")
        with feed.running(2_000):
            got = await reader.seqs(1_000)
        assert got == list(range(1, len(got) + 1))
        # A thousand trades are half a second: 5 frames of 10 a second, where 40 a second would be 20.
        assert reader.kinds.count("trades") <= 9


async def test_subscriber_that_never_reads_costs_bounded_memory_and_harms_nobody(feed: Feed, run_dir: Path) -> None:
    async with TapeServer(run_dir, heartbeat_s=0.1, stall_s=60.0) as server, Reader(server, snapshot=False) as well:
        await well.next("status")
        note, written = "x" * 2_000, 0
        while written < 4 * MIB:  # what is needed in any case is there, before it is measured
            written += await give(feed, well, note)
        before, most, written = resident(), 0, 0
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.unary_stream("/tickcast.v1.Tape/Subscribe")(
                pb.SubscribeRequest(snapshot=False).SerializeToString()
            )
            await call.initial_metadata()
            # Far more than it may hold, several times around the tape.
            while written < 24 * MIB:
                written += await give(feed, well, note)
                most = max(most, resident() - before)
            # Both ends of the stuck stream live in this process.
            assert most < 8 * MIB
            assert server.service.figures["streams"] == 2
        async with asyncio.timeout(10):
            while server.service.figures["streams"] > 1:
                await asyncio.sleep(0.01)


async def give(feed: Feed, reader: Reader, note: str) -> int:
    """Add trades with long reasons, and see that the reader gets them; return how many bytes they were."""
    expected = feed.writer.head + 1
    feed.add(100, note)
    assert await reader.seqs(100) == list(range(expected, expected + 100))
    return 100 * len(note)


async def test_subscriber_that_stands_still_is_let_go_and_told_so(feed: Feed, run_dir: Path) -> None:
    async with (
        TapeServer(run_dir, heartbeat_s=0.1, stall_s=0.5) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        subscribe = channel.unary_stream("/tickcast.v1.Tape/Subscribe")
        call = subscribe(pb.SubscribeRequest(snapshot=False).SerializeToString())
        await call.initial_metadata()
        async with asyncio.timeout(30):
            while not server.service.figures["evicted"]:
                feed.add(100, "x" * 2_000)
                await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                while await call.read() is not grpc.aio.EOF:
                    pass
        assert ended.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.service.figures["streams"] == 0


def resident() -> int:
    """Return the memory of this process, bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_snapshot_call_gives_the_newest_values(server: TapeServer, feed: Feed) -> None:
    feed.add(30)
    async with TapeLink(Target(address=f"127.0.0.1:{server.port}")) as link:
        taken = await link.snapshot(pb.SnapshotRequest(instruments=["SYM2"]))
    columns = FrameNames(list(taken.hello.instruments), list(taken.hello.reasons)).columns(taken.snapshot)
    assert (columns["instrument_id"], columns["to_seq"]) == (["SYM2"], 30)


async def test_another_tape_is_told_and_followed_from_its_beginning(feed: Feed, run_dir: Path) -> None:
    feed.add(10)
    async with TapeServer(run_dir, heartbeat_s=0.1) as server, Reader(server, from_seq=1) as reader:
        assert await reader.seqs(10) == list(range(1, 11))
        feed.close()
        other = Feed(run_dir, enrichments=[("notional", "USD")], fresh=True)
        try:
            await reader.next("hello")
            assert reader.hello.epoch == other.writer.epoch != feed.writer
            other.add(5)
            frame = await reader.next("trades")
            assert reader.names.columns(frame.trades)["to_seq"] <= 5
        finally:
            other.close()
            feed.writer = other.writer


async def test_client_tick_is_judged_where_the_rules_are(feed: Feed, run_dir: Path) -> None:
    async def judge(payload: bytes) -> list[str]:
        return [json.dumps({"tick": payload.decode()})]

    async with TapeServer(run_dir, judge) as server, TapeLink(Target(address=f"127.0.0.1:{server.port}")) as link:
        assert list((await link.judge(pb.JudgeRequest(tick=b"{}"))).trades) == ['{"tick": "{}"}']
    async with TapeServer(run_dir) as server, TapeLink(Target(address=f"127.0.0.1:{server.port}")) as link:
        with pytest.raises(LinkRefusedError, match="no rules"):
            await link.judge(pb.JudgeRequest(tick=b"{}"))


async def test_frames_of_a_link_end_with_the_link(server: TapeServer, feed: Feed) -> None:
    feed.add(1)
    async with (
        TapeLink(Target(address=f"127.0.0.1:{server.port}")) as link,
        aclosing(link.frames(pb.SubscribeRequest())) as frames,
    ):
        await anext(frames)
        await server.stop()
        with pytest.raises(LinkLostError):
            async with asyncio.timeout(10):
                async for _ in frames:
                    pass
