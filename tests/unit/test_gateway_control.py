"""The line to the processor, over a processor that the test plays."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tickcast.gateway.control import Control, JudgeError


class Processor:
    """Listens on a control socket and answers as told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.mode = "echo"
        self.held: list[tuple[asyncio.StreamWriter, dict]] = []
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        while line := await reader.readline():
            request = json.loads(line)
            if self.mode == "hold":
                self.held.append((writer, request))
            else:
                self.answer(writer, request)

    def answer(self, writer: asyncio.StreamWriter, request: dict) -> None:
        if request["payload"] == "refuse":
            reply = {"id": request["id"], "error": {"code": "closed", "message": "not now"}}
        else:
            reply = {"id": request["id"], "trade": {"payload": request["payload"], "price": 1.50}}
        writer.write(json.dumps(reply).encode() + b"\n")


@pytest.fixture
async def processor(tmp_path) -> AsyncIterator[Processor]:
    made = Processor(tmp_path / "control.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def control(processor) -> AsyncIterator[Control]:
    made = Control(processor.path, timeout_s=1.0)
    yield made
    await made.close()


async def refused(asking) -> JudgeError:
    with pytest.raises(JudgeError) as caught:
        await asking
    return caught.value


async def test_answers_find_their_askers_over_one_connection(processor, control):
    answers = await asyncio.gather(*(control.judge(f"tick {n}") for n in range(100)))
    assert [json.loads(answer)["payload"] for answer in answers] == [f"tick {n}" for n in range(100)]
    assert processor.connections == 1


async def test_answers_may_come_in_any_order(processor, control):
    processor.mode = "hold"
    asking = [asyncio.create_task(control.judge(f"tick {n}")) for n in range(3)]
    async with asyncio.timeout(2):
        while len(processor.held) < 3:
            await asyncio.sleep(0.005)
    for writer, request in reversed(processor.held):
        processor.answer(writer, request)
    answers = await asyncio.gather(*asking)
    assert [json.loads(answer)["payload"] for answer in answers] == ["tick 0", "tick 1", "tick 2"]


async def test_a_refusal_carries_its_code(control):
    problem = await refused(control.judge("refuse"))
    assert (problem.code, str(problem)) == ("closed", "not now")


async def test_a_processor_that_is_not_there_is_away(tmp_path):
    control = Control(tmp_path / "nobody.sock")
    assert (await refused(control.judge("x"))).code == "away"
    assert (await refused(control.judge("x"))).code == "away"
    await control.close()


async def test_a_processor_that_says_nothing_times_out_and_is_not_waited_for(processor):
    control = Control(processor.path, timeout_s=0.05)
    processor.mode = "hold"
    assert (await refused(control.judge("x"))).code == "timeout"
    processor.mode = "echo"
    # The late answer to the first must not be taken for one to the second.
    processor.answer(*processor.held[0])
    assert json.loads(await control.judge("y"))["payload"] == "y"
    await control.close()


async def test_a_processor_that_goes_away_is_told_at_once_and_found_again(processor, control):
    processor.mode = "hold"
    asking = asyncio.create_task(control.judge("x"))
    async with asyncio.timeout(2):
        while not processor.held:
            await asyncio.sleep(0.005)
    await processor.stop()
    assert (await refused(asking)).code == "away"
    processor.mode = "echo"
    await processor.start()
    async with asyncio.timeout(3):
        while True:
            try:
                answer = await control.judge("z")
                break
            except JudgeError as problem:
                assert problem.code == "away"
                await asyncio.sleep(0.02)
    assert json.loads(answer)["payload"] == "z"
    assert processor.connections == 2


async def test_rubbish_from_the_processor_ends_the_connection_not_the_gateway(processor, control):
    processor.mode = "hold"
    asking = asyncio.create_task(control.judge("x"))
    async with asyncio.timeout(2):
        while not processor.held:
            await asyncio.sleep(0.005)
    processor.held[0][0].write(b"{oops\n")
    assert (await refused(asking)).code == "away"
    processor.mode = "echo"
    assert json.loads(await control.judge("again"))["payload"] == "again"
