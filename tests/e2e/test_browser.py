"""The dashboard in a real headless Chromium, served by a real gateway, fed by a real queue."""

import os
import signal

import pytest
from playwright.async_api import expect

from fixtures.serving import Served, until

pytestmark = [pytest.mark.nats, pytest.mark.browser, pytest.mark.timeout(180)]


async def handle(page, name):
    return await page.evaluate(f"window.tickcast.{name}")


@pytest.fixture(autouse=True)
def no_mistakes(page):
    yield
    assert not page.mistakes


async def reaches(page, expression, timeout=30_000):
    await page.wait_for_function(expression, timeout=timeout)


async def test_trades_appear_and_a_reject_shows_its_reason(stream, page, tmp_path):
    with Served(tmp_path, "--source", stream.source, "--rules", "tickcast.examples.quantlib:fast") as served:
        await page.goto(f"http://{served.address}/")
        await reaches(page, "window.tickcast?.state === 'live'")
        await stream.publish(3, instrument="AAPL", price=100.0)
        await stream.publish(1, instrument="AAPL", price=20_000.0)
        await reaches(page, "window.tickcast.received === 4")
        rows = page.get_by_test_id("trade")
        await expect(rows).to_have_count(4)
        newest = rows.first
        await expect(newest).to_contain_text("INVALID")
        await expect(newest).to_contain_text("Price out of acceptable range")
        await expect(rows.last).to_contain_text("VALID")
        await expect(page.get_by_test_id("invalid")).to_have_text("1")


async def test_a_sent_tick_gets_its_verdict(stream, page, tmp_path):
    with Served(tmp_path, "--source", stream.source) as served:
        await page.goto(f"http://{served.address}/")
        await reaches(page, "window.tickcast?.state === 'live'")
        await page.keyboard.press("t")
        for price, status, reason in [("12.5", "VALID", ""), ("10001", "INVALID", "Price out of acceptable range")]:
            await page.get_by_test_id("tick-instrument").fill("AAPL")
            await page.get_by_test_id("tick-price").fill(price)
            await page.get_by_test_id("tick-volume").fill("9007199254740993")
            await page.get_by_test_id("tick-send").click()
            await expect(page.get_by_test_id("verdict")).to_have_attribute("data-status", status)
            await expect(page.get_by_test_id("verdict-reason")).to_contain_text(reason)
        assert await handle(page, "received") == 0


async def test_the_page_goes_on_by_itself_after_the_gateway_was_killed(stream, page, tmp_path):
    with Served(tmp_path, "--source", stream.source) as served:
        await page.goto(f"http://{served.address}/")
        await reaches(page, "window.tickcast?.state === 'live'")
        async with stream.publishing(200):
            await reaches(page, "window.tickcast.received > 100")
            worker, main = served.gateway_workers()[0], served.gateway_pid()
            os.kill(main, signal.SIGKILL)
            info = served.run_dir / "gateway.json"
            await until(lambda: info.exists() and served.gateway_pid() != main, "a new gateway")
            assert worker not in served.gateway_workers()
            before = stream.published
            await reaches(page, f"window.tickcast.lastSeq > {before} + 200")
        await reaches(page, f"window.tickcast.received === {stream.published}")
        assert await handle(page, "missing") == 0
        assert await handle(page, "lastSeq") == stream.published
