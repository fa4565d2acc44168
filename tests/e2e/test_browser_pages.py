"""Every page of the dashboard in a real Chromium, with real ticks of the simulator; and the screenshots in docs."""

import asyncio
import csv
import os
import signal
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from fixtures.serving import Served, until

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
PAGES = ("blotter", "watchlist", "instrument", "rejects", "rules", "pipeline")
RULES = ("--rules", "tickcast.examples.quantlib:fast")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def shots(tmp_path):
    """Where pictures go; `TICKCAST_SCREENSHOTS=docs/screenshots` takes those of the documentation anew."""
    folder = Path(os.environ.get("TICKCAST_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path, "--source", "sim://?rate=300&instruments=24&seed=7", *RULES) as running:
        yield running


@pytest.fixture(autouse=True)
def no_mistakes(page):
    yield
    assert not page.mistakes


async def open_page(page, served, route=""):
    await page.goto(f"http://{served.address}/#/{route}")
    await reaches(page, "window.tickcast?.state === 'live' && window.tickcast.painted > 0")


async def reaches(page, expression, timeout=30_000):
    await page.wait_for_function(expression, timeout=timeout)


async def ready(page, name):
    """Wait until a page shows what it is for."""
    part = {
        "blotter": page.get_by_test_id("trade").first,
        "watchlist": page.get_by_test_id("quote").first,
        "instrument": page.locator("[data-testid=chart][data-points]:not([data-points='0']) canvas").first,
        "rejects": page.get_by_test_id("reject").first,
        "rules": page.get_by_test_id("rule").first,
        "pipeline": page.locator("[data-stage=wire]"),
    }[name]
    await expect(part).to_be_visible(timeout=30_000)


async def test_the_blotter_filters_sorts_pauses_and_exports(served, page, tmp_path):
    await open_page(page, served)
    rows = page.get_by_test_id("trade")
    await page.keyboard.press("/")
    await page.keyboard.type("aapl")
    await expect(page.get_by_test_id("filter-instrument")).to_have_value("aapl")
    await reaches(page, "[...document.querySelectorAll('td[data-field=instrument]')].filter(c => c.offsetParent)"
                        ".every(c => c.textContent.includes('AAPL'))")  # fmt: skip
    await page.keyboard.press("Enter")  # back to the grid
    await page.keyboard.press("Space")
    await expect(page.get_by_test_id("pause")).to_have_attribute("aria-pressed", "true")
    first = await rows.first.inner_text()
    await reaches(page, "window.tickcast.waiting > 100")
    assert await rows.first.inner_text() == first
    await page.locator("th[data-field=price]").click()
    await expect(page.locator("th[data-field=price]")).to_have_attribute("aria-sort", "descending")
    texts = await page.locator("td[data-field=price]").all_inner_texts()
    prices = [float(text.replace("\u202f", "")) for text in texts]
    assert prices == sorted(prices, reverse=True)
    async with page.expect_download() as download:
        await page.keyboard.press("e")
    await (await download.value).save_as(tmp_path / "shown.csv")
    shown = list(csv.DictReader((tmp_path / "shown.csv").open(encoding="utf-8", newline="")))
    assert {row["instrument"] for row in shown if row["status"] == "VALID"} == {"AAPL"}
    assert [float(row["price"]) for row in shown][: len(prices)] == prices
    await page.keyboard.press("Space")
    await expect(page.get_by_test_id("shown")).to_be_visible()
    await reaches(page, "window.tickcast.waiting < 100")


async def test_a_refused_trade_tells_why_and_what_the_rules_say_now(served, page):
    await open_page(page, served, "rejects")
    await page.get_by_test_id("by-reason").get_by_text("Price out of acceptable range").click(timeout=60_000)
    await page.get_by_test_id("reject").filter(has_text="Price out of acceptable range").first.click()
    why = page.get_by_test_id("why")
    await expect(why.get_by_test_id("why-reason")).to_have_text("Price out of acceptable range")
    await expect(why.locator("tr[data-outcome=refused]")).to_contain_text("screen")
    await expect(why.locator("tr[data-outcome='not asked']").first).to_contain_text("plausible")
    await why.get_by_test_id("rejudge").click()
    await expect(why.get_by_test_id("rejudged")).to_have_attribute("data-status", "INVALID")
    await expect(why.get_by_test_id("rejudged")).to_contain_text("Price out of acceptable range")
    # The address names the trade: whoever gets the link sees the same.
    link = page.url
    await page.goto("about:blank")
    await page.goto(link)
    await expect(page.get_by_test_id("why-reason")).to_have_text("Price out of acceptable range")


async def test_a_valid_trade_opened_by_keys_passes_the_rules_of_now(served, page):
    await open_page(page, served)
    await page.locator("regular-table").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("radio", name="Valid", exact=False).first.check(force=True)
    await page.locator("regular-table").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("w")
    await expect(page.get_by_test_id("why-status")).to_contain_text("VALID")
    await page.get_by_test_id("rejudge").click()
    await expect(page.get_by_test_id("rejudged")).to_have_attribute("data-status", "VALID")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("why")).to_have_count(0)


async def test_watchlist_rules_and_pipeline_show_what_the_server_says(served, page):
    await open_page(page, served, "watchlist")
    await expect(page.get_by_test_id("quote").first).to_have_attribute("data-stale", "false")
    await expect(page.get_by_test_id("instruments")).to_have_text("24 instruments")
    await page.keyboard.press("5")
    rule = page.locator("[data-rule=plausible]")
    await expect(rule).to_contain_text("closed")
    await reaches(page, r"/\d %/.test(document.querySelector('[data-rule=plausible]').textContent)")
    await page.keyboard.press("6")
    await expect(page.get_by_test_id("processor")).to_have_text("live")
    for stage in ("decode", "rules", "enrich", "tape", "wire", "paint"):
        await expect(page.locator(f"[data-stage={stage}] td").first).to_contain_text("ms")
    await expect(page.get_by_test_id("clock")).to_contain_text("by pings")


async def test_two_tabs_share_a_connection_and_one_may_go(served, page):
    await open_page(page, served)
    other = await page.context.new_page()
    await open_page(other, served)
    await reaches(page, "window.tickcast.pages === 2")
    assert served.get("/api/status")["gateway"]["clients"] == 1
    await other.close()
    await reaches(page, "window.tickcast.pages === 1")
    before = await page.evaluate("window.tickcast.painted")
    await reaches(page, f"window.tickcast.painted > {before} + 200")


async def test_a_tab_that_slept_gets_what_is_and_no_backlog(served, page):
    await open_page(page, served)
    other = await page.context.new_page()  # keeps the connection awake
    await open_page(other, served)
    session = await page.context.new_cdp_session(page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    slept_at = await other.evaluate("window.tickcast.lastSeq")
    await reaches(other, f"window.tickcast.lastSeq > {slept_at} + 2000")
    await session.send("Page.setWebLifecycleState", {"state": "active"})
    await reaches(page, f"window.tickcast.painted > 0 && window.tickcast.lastSeq > {slept_at} + 2000")
    await reaches(page, "window.tickcast.waiting < 200")
    assert await page.evaluate("window.tickcast.missing") == 0


async def test_the_server_killed_and_started_again_under_the_page(served, page):
    await open_page(page, served)
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


async def test_no_page_has_serious_faults_for_people_who_can_not_see_it(served, page):
    script = AXE.read_text()
    for name in PAGES:
        await open_page(page, served, name)
        await ready(page, name)
        await page.evaluate(script)
        for theme in ("dark", "light"):
            await page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            serious = [
                (fault["id"], fault["nodes"][0]["target"], fault["nodes"][0]["failureSummary"])
                for fault in found["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
            assert serious == [], (name, theme)
    stops = await page.evaluate("document.querySelectorAll('regular-table [tabindex=\"0\"]').length")
    assert stops == 0


async def test_pages_look_as_they_do_in_the_documentation(served, chromium, shots):
    """Not compared pixel by pixel: fonts and figures differ. That they fit without scrolling sideways is."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        for theme, width, height in (("dark", 1280, 720), ("light", 1280, 720), ("dark", 390, 844)):
            context = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, bypass_csp=True
            )
            page = await context.new_page()
            for name in PAGES:
                await open_page(page, served, name)
                await ready(page, name)
                await until(lambda: served.board()["counters"]["ticks"] > 3000, "some ticks to show")
                await reaches(page, "document.querySelector('[data-testid=rate]').textContent !== '0.0'")
                shape = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert shape[0] <= shape[1], (name, theme, shape)
                size = "phone" if width < 500 else theme
                await page.screenshot(path=shots / f"{name}-{size}.png", animations="disabled")
            await context.close()
        await browser.close()
