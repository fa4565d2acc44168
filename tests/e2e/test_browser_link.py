"""What the page says of its connection when it breaks, stands still, or nobody looks; in a real Chromium."""

import asyncio
import os
import signal
import sys
import time

import pytest
from playwright.async_api import expect

from fixtures.cdp import covering_tabs
from fixtures.chromium import launched
from fixtures.dashboard import RULES, open_page, reaches
from fixtures.serving import Served
from fixtures.wire import FAR, wire
from tickcast._core import TapeReader

__all__ = ["wire"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PARTITION_S = 30
HIDDEN_S = 60
BUSY_S = 60
BUSY_RATE = 10_000


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path, "--source", "sim://?rate=300&instruments=24&seed=7", *RULES) as running:
        yield running


@pytest.fixture
def far_servers(wire, programs, tmp_path):
    """Serve a calm and a busy market on another machine; return address and run-dir of each."""
    found = {}
    for name, rate, port in (("calm", 300, 3000), ("busy", 4000, 3001)):
        run_dir = tmp_path / name
        program = programs.start(
            *wire.enter(wire.far), sys.executable, "-m", "tickcast", "serve", "--host", FAR, "--port", str(port),
            "--source", f"sim://?rate={rate}&instruments=24&seed=7", "--run-dir", str(run_dir),
            TICKCAST_WEB_INSECURE_PUBLIC="true",
        )  # fmt: skip
        program.expect("ready", 30)
        programs.adopt_children(run_dir)
        found[name] = f"{FAR}:{port}", run_dir
    return found


def through(words, executable, folder):
    """Return a program that runs the browser inside of a namespace."""
    script = folder / "chromium-near"
    script.write_text(f'#!/bin/sh\nexec {" ".join(words)} {executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


async def test_half_a_minute_of_partition_is_told_and_made_good(wire, far_servers, chromium, tmp_path):
    async with launched(through(wire.enter(wire.near), chromium, tmp_path)) as browser:
        pages = {}
        for name, (address, _) in far_servers.items():
            context = await browser.new_context(bypass_csp=True)
            pages[name] = await context.new_page()
            await open_page(pages[name], address)
        wire.cut, cut_at = True, time.monotonic()
        for page in pages.values():
            await expect(page.get_by_test_id("link")).to_have_attribute("data-state", "stale", timeout=15_000)
            await expect(page.get_by_test_id("source")).to_have_attribute("data-state", "unknown")
            await expect(page.locator(".grid-host")).to_have_attribute("data-stale", "true")
        frozen = {name: await page.evaluate("window.tickcast.lastSeq") for name, page in pages.items()}
        for page in pages.values():
            await expect(page.get_by_test_id("link")).to_have_attribute("data-state", "reconnecting", timeout=20_000)
            await expect(page.get_by_test_id("link-detail")).not_to_be_empty()
        await asyncio.sleep(max(0.0, cut_at + PARTITION_S - time.monotonic()))
        for name, page in pages.items():
            assert await page.evaluate("window.tickcast.lastSeq") == frozen[name]
            assert await page.get_by_test_id("link").get_attribute("data-state") == "reconnecting"
        heads = {name: TapeReader.open(run_dir).head for name, (_, run_dir) in far_servers.items()}
        wire.cut = False
        for name, page in pages.items():
            await reaches(page, f"tickcast.state === 'live' && tickcast.lastSeq > {heads[name]}", 60_000)
            assert await page.evaluate("window.tickcast.missing") == 0
        calm, busy = pages["calm"], pages["busy"]
        # The calm market was caught up on, trade by trade.
        assert heads["calm"] - frozen["calm"] > 20 * 300
        assert await calm.evaluate("tickcast.gapped") == 0
        await reaches(calm, "tickcast.received === tickcast.lastSeq - tickcast.firstSeq + 1")
        await expect(calm.get_by_test_id("gaps")).to_contain_text("0 in gaps")
        # The busy one was not, and the page says what it left out.
        await expect(busy.get_by_test_id("link-detail")).to_contain_text("away for too long")
        left_out = await busy.evaluate("tickcast.gapped")
        assert left_out >= heads["busy"] - frozen["busy"] - 5_000
        await expect(busy.get_by_test_id("gapped")).to_have_text(f"{left_out:,}".replace(",", "\u202f"))
        await busy.keyboard.press("6")
        await expect(busy.get_by_role("list", name="Missed")).to_contain_text("away for too long")


async def test_a_tab_hidden_for_a_minute_wakes_to_what_is_and_no_backlog(chromium, tmp_path):
    with Served(tmp_path, "--source", "sim://?rate=2000&instruments=24&seed=7") as served:
        async with covering_tabs(chromium) as browser:
            tab = await browser.tab(f"http://{served.address}/")
            await tab.reaches("window.tickcast?.state === 'live' && tickcast.painted > 0")
            await tab.evaluate(
                "globalThis.steps = []; globalThis.step = () => {"
                " if (tickcast.painted !== steps.at(-1)) steps.push(tickcast.painted);"
                " requestAnimationFrame(step) }; step()"
            )
            await browser.tab("data:text/html,in front")
            await tab.reaches("document.visibilityState === 'hidden'")
            slept_at = await tab.evaluate("tickcast.lastSeq")
            frames = await tab.evaluate("steps.length")
            await asyncio.sleep(HIDDEN_S)
            assert await tab.evaluate("steps.length") <= frames + 1  # it was not painted
            assert await tab.evaluate("tickcast.state") == "live"
            head = await tab.evaluate("tickcast.lastSeq")
            assert head - slept_at > HIDDEN_S * 1000  # the connection went on, for whoever looks
            shown = await tab.evaluate("tickcast.painted")
            frames = await tab.evaluate("steps.length")
            await tab.bring_to_front()
            await tab.reaches("document.visibilityState === 'visible'")
            await tab.reaches(f"tickcast.painted >= {head - slept_at} && tickcast.waiting < 2000")
            steps = await tab.evaluate(f"steps.slice({frames})")
            caught_up = next(n for n, painted in enumerate(steps) if painted - shown >= head - slept_at - 4000)
            assert caught_up <= 3, steps[:10]
            assert await tab.evaluate("tickcast.missing") == 0
            # More came than is kept: the page says what it passed over.
            await tab.reaches(
                "/passed over while not shown/.test(document.querySelector('[data-testid=gaps]').textContent)"
            )


@pytest.mark.timeout(5 * BUSY_S)
async def test_ten_thousand_trades_a_second_are_shown_for_a_minute(chromium, tmp_path):
    with Served(tmp_path, "--source", f"sim://?rate={BUSY_RATE}&instruments=50&seed=7") as served:
        async with covering_tabs(chromium) as browser:
            tab = await browser.tab(f"http://{served.address}/")
            # Once the page holds as much as it ever will, nothing may grow.
            await tab.reaches("globalThis.tickcast?.painted > 70000", 60)
            held = await tab.heap_bytes()
            before = await tab.evaluate("({seq: tickcast.lastSeq, painted: tickcast.painted})")
            await tab.reaches(f"tickcast.lastSeq > {before['seq']} + {BUSY_S * BUSY_RATE}", 3 * BUSY_S)
            after = await tab.evaluate(
                "({seq: tickcast.lastSeq, painted: tickcast.painted, missing: tickcast.missing,"
                " gapped: tickcast.gapped, duplicates: tickcast.duplicates})"
            )
            assert after["painted"] - before["painted"] > (after["seq"] - before["seq"]) * 0.99
            assert (after["missing"], after["gapped"], after["duplicates"]) == (0, 0, 0)
            assert await tab.heap_bytes() < held + 8 * 2**20


async def test_two_tabs_share_a_connection_and_one_may_go(served, page):
    await open_page(page, served.address)
    other = await page.context.new_page()
    await open_page(other, served.address)
    await reaches(page, "window.tickcast.pages === 2")
    assert served.get("/api/status")["gateway"]["clients"] == 1
    await other.close()
    await reaches(page, "window.tickcast.pages === 1")
    before = await page.evaluate("window.tickcast.painted")
    await reaches(page, f"window.tickcast.painted > {before} + 200")


async def test_every_trade_comes_only_while_some_tab_shows_them(served, page):
    await open_page(page, served.address, "watchlist")
    assert await page.evaluate("tickcast.mode") == "latest"
    other = await page.context.new_page()
    await open_page(other, served.address, "blotter")
    await reaches(page, "tickcast.mode === 'tape'")
    await other.close()
    await reaches(page, "tickcast.mode === 'latest' && tickcast.leftOut > 500")
    # Nothing is missing, and what was not asked for is no loss.
    assert await page.evaluate("tickcast.missing") == 0
    await page.keyboard.press("1")
    await reaches(page, "tickcast.mode === 'tape' && tickcast.painted > 0 && tickcast.received > 0")
    await expect(page.get_by_test_id("gaps")).to_contain_text("0 in gaps")
    held = "tickcast.received + tickcast.gapped + tickcast.missing === tickcast.lastSeq - tickcast.firstSeq + 1"
    assert await page.evaluate(held)


async def test_the_server_killed_and_started_again_under_the_page(served, page):
    await open_page(page, served.address)
    epoch = await page.evaluate("window.tickcast.epoch")
    served.kill_supervisor()
    os.kill(served.processor_pid(), signal.SIGKILL)
    os.kill(served.gateway_pid(), signal.SIGKILL)
    await expect(page.get_by_test_id("link")).not_to_have_attribute("data-state", "live", timeout=20_000)
    await expect(page.locator(".grid-host")).to_have_attribute("data-stale", "true")
    await asyncio.to_thread(served.start)
    await reaches(page, "window.tickcast.state === 'live'")
    before = await page.evaluate("window.tickcast.lastSeq")
    await reaches(page, f"window.tickcast.lastSeq > {before} + 300")
    assert await page.evaluate("window.tickcast.epoch") == epoch
    assert await page.evaluate("window.tickcast.missing") == 0


async def test_a_processor_that_dies_is_told_though_the_gateway_lives(served, page):
    await open_page(page, served.address)
    os.kill(served.processor_pid(), signal.SIGSTOP)
    try:
        await expect(page.get_by_test_id("source")).to_have_attribute("data-state", "stale", timeout=15_000)
        assert await page.evaluate("tickcast.state") == "live"
    finally:
        os.kill(served.processor_pid(), signal.SIGCONT)
    await expect(page.get_by_test_id("source")).to_have_attribute("data-state", "live", timeout=15_000)
