"""`marketdata.MarketDataProcessor/ProcessStream` as a stock client sees it, over a real processor."""

import json
import queue
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.grpcclient import PROTO, Contract, channel
from fixtures.processes import Program, Programs

RULES = """
import asyncio, os, time
import numpy as np
import tickcast as tc

rules = tc.RuleSet("desk")

@rules.check(reason="Too far from the VWAP")
def near_vwap(ticks):
    return ~(np.abs(ticks.price / ticks.vwap_20m - 1) >= 0.5)

@rules.check_each
def behaved(tick):
    if tick.instrument_id == "RAISES":
        raise ValueError("no such thing")
    if tick.instrument_id == "HANGS":
        time.sleep(60)
    if tick.instrument_id == "DIES":
        os._exit(1)
"""


class Processor:
    """A real processor without a source."""

    def __init__(self, program: Program, address: str) -> None:
        self.program = program
        self.address = address


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    folder = tmp_path_factory.mktemp("processor")
    (folder / "desk.py").write_text(RULES)
    programs = Programs()
    program = programs.tickcast("process", "--rules", "desk:rules", "--run-dir", str(folder / "run"), cwd=folder)
    yield Processor(program, program.expect("ready grpc=").removeprefix("ready grpc="))
    programs.close()


@pytest.fixture
def stub(processor: Processor, contract: Contract) -> Iterator[object]:
    with channel(processor.address) as opened:
        yield contract.stubs.MarketDataProcessorStub(opened)


def tick(contract: Contract, n: int, **fields: object) -> object:
    values = {"instrument_id": f"SYM{n % 7}", "price": 100.0 + n % 13, "volume": n + 1, "timestamp_ns": 10**18 + n}
    return contract.messages.RawMarketTick(**values | fields)


def test_every_tick_is_answered_in_order_with_its_trade(stub: object, contract: Contract) -> None:
    ticks = [tick(contract, n) for n in range(5_000)]
    trades = list(stub.ProcessStream(iter(ticks), timeout=30))
    assert [(t.instrument_id, t.price, t.volume, t.timestamp_ns) for t in trades] == [
        (t.instrument_id, t.price, t.volume, t.timestamp_ns) for t in ticks
    ]
    assert {t.status for t in trades} == {contract.messages.VALID}
    assert not any(t.HasField("reason") for t in trades)
    ids = [t.trade_id for t in trades]
    assert ids == sorted(set(ids))
    assert {len(i) for i in ids} == {32}
    sums: dict[str, list[float]] = {}
    for t in trades:
        money, volume = sums.setdefault(t.instrument_id, [0.0, 0.0])
        sums[t.instrument_id] = [money + t.price * t.volume, volume + t.volume]
        money, volume = sums[t.instrument_id]
        assert t.vwap_20m == pytest.approx(money / volume, rel=1e-9)


def test_a_client_that_waits_gets_each_answer(stub: object, contract: Contract) -> None:
    sent: queue.SimpleQueue[object] = queue.SimpleQueue()
    answers = stub.ProcessStream(iter(sent.get, None), timeout=30)
    waits = []
    for n in range(300):
        begun = time.perf_counter()
        sent.put(tick(contract, n))
        assert next(answers).volume == n + 1
        waits.append(time.perf_counter() - begun)
    sent.put(None)
    assert list(answers) == []
    waits.sort()
    print(f"p50 {waits[150] * 1e3:.2f} ms, p99 {waits[297] * 1e3:.2f} ms")


def test_initial_metadata_comes_before_the_first_tick_is_sent(stub: object) -> None:
    sent: queue.SimpleQueue[object] = queue.SimpleQueue()
    call = stub.ProcessStream(iter(sent.get, None), timeout=10)
    assert call.initial_metadata() is not None
    sent.put(None)
    assert list(call) == []


def test_bad_ticks_get_their_reason_and_break_nothing(stub: object, contract: Contract) -> None:
    trades = list(
        stub.ProcessStream(
            iter(
                [
                    tick(contract, 0),
                    tick(contract, 1, price=-1.0),
                    tick(contract, 2, instrument_id="X"),
                    tick(contract, 3, price=20_000.0),
                    tick(contract, 7, price=1_000.0),
                    tick(contract, 5, instrument_id="RAISES"),
                    tick(contract, 6, instrument_id="HANGS"),
                    tick(contract, 9, timestamp_ns=-1),
                    contract.messages.RawMarketTick(),
                    tick(contract, 4),
                ]
            ),
            timeout=30,
        )
    )
    invalid, valid = contract.messages.INVALID, contract.messages.VALID
    assert [t.status for t in trades] == [valid, *[invalid] * 8, valid]
    reasons = [t.reason for t in trades[1:-1]]
    assert reasons[0].startswith("Processing error: price: ")
    assert reasons[1].startswith("Processing error: instrument_id: ")
    assert reasons[2] == "Price out of acceptable range"
    assert reasons[3] == "Too far from the VWAP"
    assert reasons[4] == "Processing error: behaved: no such thing"
    assert reasons[5] == "Rule unavailable: behaved"
    assert reasons[6].startswith("Processing error: timestamp_ns: ")
    assert reasons[7].startswith("Processing error: instrument_id: ")
    assert [t.vwap_20m for t in trades[1:-1]] == [0.0] * 8


def test_a_missing_time_is_stamped(stub: object, contract: Contract) -> None:
    before = time.time_ns()
    (trade,) = stub.ProcessStream(iter([tick(contract, 0, timestamp_ns=0)]), timeout=10)
    assert before <= trade.timestamp_ns <= time.time_ns()


def test_calls_have_windows_of_their_own(stub: object, contract: Contract) -> None:
    for price in (100.0, 900.0):  # the second would be too far from the first
        trades = list(stub.ProcessStream(iter([tick(contract, 0, price=price)] * 2), timeout=10))
        assert [t.vwap_20m for t in trades] == [price, price]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.one_of(st.binary(max_size=40), st.just(b"\n\x04SYM1\x11\0\0\0\0\0\0Y@\x18\x05 \x01")),
        min_size=1,
        max_size=30,
    )
)
def test_any_bytes_are_answered_one_for_one(
    processor: Processor, contract: Contract, opened: grpc.Channel, messages: list[bytes]
) -> None:
    call = opened.stream_stream("/marketdata.MarketDataProcessor/ProcessStream")(iter(messages), timeout=20)
    trades = [contract.messages.ValidatedTrade.FromString(answer) for answer in call]
    assert len(trades) == len(messages)
    for message, trade in zip(messages, trades, strict=True):
        if message.endswith(b"Y@\x18\x05 \x01"):
            assert (trade.status, trade.volume) == (contract.messages.VALID, 5)
        if trade.status == contract.messages.INVALID:
            assert trade.reason


@pytest.fixture(scope="module")
def opened(processor: Processor) -> Iterator[grpc.Channel]:
    with channel(processor.address) as opened:
        yield opened


def test_batches_are_answered_with_batches(processor: Processor, contract: Contract, batches: Contract) -> None:
    from tickcast.v1 import ticks_pb2

    sizes = [64, 1, 0, 4_096, 300]
    with channel(processor.address) as opened:
        stub = batches.stubs.MarketDataProcessorStub(opened)
        sent = [
            ticks_pb2.RawMarketTickBatch(ticks=[tick(contract, n, volume=size + n + 1) for n in range(size)])
            for size in sizes
        ]
        answers = list(stub.ProcessBatches(iter(sent), timeout=30))
    assert [len(a.trades) for a in answers] == sizes
    for asked, answer in zip(sent, answers, strict=True):
        assert [t.volume for t in answer.trades] == [t.volume for t in asked.ticks]


def test_a_broken_tick_of_a_batch_keeps_its_place(processor: Processor, batches: Contract) -> None:
    good, bad = b"\n\x04SYM1\x11\0\0\0\0\0\0Y@\x18\x05 \x01", b"\n\x02\xff\xfe"
    message = b"".join(b"\n" + bytes([len(t)]) + t for t in (good, bad, good))
    with channel(processor.address) as opened:
        call = opened.stream_stream("/tickcast.v1.MarketDataProcessor/ProcessBatches")
        first, second = call(iter([message, b"\xff\xff"]), timeout=10)
    trades = batches.messages.ValidatedTradeBatch.FromString(first).trades
    assert [t.status for t in trades] == [1, 2, 1]
    assert "UTF-8" in trades[1].reason
    (broken,) = batches.messages.ValidatedTradeBatch.FromString(second).trades
    assert broken.status == 2
    assert broken.reason.startswith("Processing error: ")


def test_a_client_that_leaves_or_does_not_read_harms_nobody(stub: object, contract: Contract) -> None:
    def endless() -> Iterator[object]:
        n = 0
        while True:
            yield tick(contract, n)
            n += 1

    silent = stub.ProcessStream(endless(), timeout=60)
    left = stub.ProcessStream(endless(), timeout=60)
    assert next(left).status == contract.messages.VALID
    left.cancel()
    assert len(list(stub.ProcessStream(iter([tick(contract, n) for n in range(100)]), timeout=20))) == 100
    silent.cancel()


def test_a_node_client_made_of_the_bare_contract_gets_the_same_trades(
    processor: Processor, contract: Contract, node_client: list[str]
) -> None:
    big = 2**63 - 1
    ticks = [
        {"instrumentId": f"SYM{n % 5}", "price": 50 + n / 8, "volume": n + 1, "timestampNs": 10**18 + n}
        for n in range(2_000)
    ]
    ticks[7] |= {"price": -1}
    ticks[8] |= {"instrumentId": "ÄÖÜ", "volume": big}
    lines = "".join(
        json.dumps(t | {"volume": str(t["volume"]), "timestampNs": str(t["timestampNs"])}) + "\n" for t in ticks
    )
    done = subprocess.run(
        [*node_client, str(PROTO / "market_data.proto"), processor.address],
        input=lines, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    trades = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(t["instrumentId"], t["price"], int(t["volume"]), int(t["timestampNs"])) for t in trades] == [
        (t["instrumentId"], t["price"], t["volume"], t["timestampNs"]) for t in ticks
    ]
    assert [t["status"] for t in trades] == ["VALID"] * 7 + ["INVALID"] + ["VALID"] * 1_992
    assert [n for n, t in enumerate(trades) if "reason" in t] == [7]
    assert trades[7]["reason"].startswith("Processing error: price: ")
    asked = [
        contract.messages.RawMarketTick(
            instrument_id=t["instrumentId"], price=t["price"], volume=t["volume"], timestamp_ns=t["timestampNs"]
        )
        for t in ticks
    ]
    with channel(processor.address) as opened:
        stock = list(contract.stubs.MarketDataProcessorStub(opened).ProcessStream(iter(asked), timeout=30))
    assert [t["vwap_20m"] for t in trades] == [t.vwap_20m for t in stock]


def test_published_ticks_go_to_the_tape_through_the_common_windows(
    programs: Programs, tmp_path: Path, contract: Contract
) -> None:
    program = programs.tickcast(
        *("process", "--source", "sim://?rate=500&instruments=5", "--sink", "jsonl:trades.jsonl", "--set"),
        *("grpc.publish=true", "--run-dir", str(tmp_path / "run")),
        cwd=tmp_path,
    )
    address = program.expect("ready grpc=").removeprefix("ready grpc=")
    answers = []
    with channel(address) as opened:
        stub = contract.stubs.MarketDataProcessorStub(opened)
        for price in (100.0, 300.0):
            ticks = [tick(contract, 0, instrument_id="MINE", price=price, volume=10)] * 50
            answers += stub.ProcessStream(iter([*ticks, tick(contract, 0, price=-1.0)]), timeout=30)
    assert answers[49].vwap_20m == 100.0
    assert answers[-2].vwap_20m == pytest.approx(200.0)  # the windows of the first call
    assert program.end() == 0
    lines = [json.loads(line) for line in (tmp_path / "trades.jsonl").read_text().splitlines()]
    ids = {answer.trade_id for answer in answers}
    written = [line for line in lines if line["tradeId"] in ids]
    assert [line["tradeId"] for line in written] == [answer.trade_id for answer in answers]
    assert [line.get("vwap20m", 0.0) for line in written] == [answer.vwap_20m for answer in answers]
    assert [line.get("reason", "") for line in written] == [answer.reason for answer in answers]
    assert len(lines) > len(written)  # the source's own went on
