"""The other pages in a real Chromium, with real ticks of the simulator: what they say is what the server says."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from fixtures.chromium import launched
from fixtures.dashboard import number, open_page, reaches, ready, write_desk
from fixtures.serving import Served, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def served(tmp_path):
    rules = write_desk(tmp_path)
    with Served(tmp_path, "--source", "sim://?rate=300&instruments=24&seed=7", *rules) as running:
        yield running


async def row_of(page, instrument):
    """Return the texts of an instrument's row of the watchlist, by column."""
    row = page.locator("tr[data-testid=quote]").filter(
        has=page.locator("td[data-field=instrument]", has_text=instrument)
    )
    found = await row.first.evaluate(
        "row => Object.fromEntries([...row.cells].map(c => [c.dataset.field, c.textContent]))"
    )
    return {field: text.strip() for field, text in found.items()}


async def test_the_watchlist_shows_the_newest_of_each_instrument(served, page):
    await open_page(page, served.address, "watchlist")
    assert await page.evaluate("tickcast.mode") == "latest"
    await expect(page.get_by_test_id("instruments")).to_have_text("24 instruments", timeout=30_000)
    await expect(page.get_by_test_id("quote").first).to_have_attribute("data-stale", "false")
    await until(lambda: served.board()["counters"]["ticks"] > 3000, "some ticks")
    activity = await asyncio.to_thread(served.get, "/api/activity")
    at = activity["instruments"].index("AAPL")
    await reaches(
        page, "[...document.querySelectorAll('td[data-field=rate]')].some(c => parseFloat(c.textContent) > 1)"
    )
    row = await row_of(page, "AAPL")
    assert number(row["volume"]) >= int(activity["volume"][at]) * 0.5
    assert number(row["rate"]) == pytest.approx(activity["perSecond"][at], rel=0.5)
    snapshot = await asyncio.to_thread(served.get, "/api/snapshot?instrument=AAPL")
    trade = snapshot["trades"][0]
    assert number(row["last"]) == pytest.approx(trade["price"], rel=0.01)
    assert number(row["vwap"]) == pytest.approx(trade["vwap20m"], rel=0.01)
    for field in ("change", "distance"):
        assert row[field].endswith("%")
    assert row["age"] == "< 1 s"
    # No faster than anybody reads, and everything that is left out is accounted for.
    assert await page.evaluate("tickcast.leftOut") > 100
    assert await page.evaluate("tickcast.missing") == 0


async def test_the_watchlist_sorts_filters_and_opens_an_instrument(served, page):
    await open_page(page, served.address, "watchlist")
    await expect(page.get_by_test_id("instruments")).to_have_text("24 instruments", timeout=30_000)
    head = page.locator("th[data-field=last]")
    await head.click()
    await expect(head).to_have_attribute("aria-sort", "descending")
    await reaches(page, "(() => { const p = [...document.querySelectorAll('tr[data-testid=quote] td[data-field=last]')]"
                        ".map(c => parseFloat(c.textContent.replace(/[^0-9.]/g, '')));"
                        " return p.length > 5 && p.every((x, i) => i === 0 || x <= p[i - 1]) })()")  # fmt: skip
    await page.keyboard.press("/")
    await page.keyboard.type("nothing")
    await expect(page.get_by_test_id("grid-empty")).to_have_text("No instrument is like “NOTHING”")
    await page.get_by_test_id("filter-instrument").fill("usd")
    await expect(page.get_by_test_id("grid-empty")).to_have_text("")
    await reaches(page, "[...document.querySelectorAll('tr[data-testid=quote]')].filter(r => r.offsetParent)"
                        ".every(r => r.cells[0].textContent.includes('USD'))")  # fmt: skip
    await page.keyboard.press("Enter")
    await page.keyboard.press("ArrowDown")
    name = await page.locator("tr[aria-selected=true] td[data-field=instrument]").inner_text()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("instrument")).to_have_value(name)


@pytest.fixture
async def phone(chromium):
    async with launched(chromium) as browser:
        context = await browser.new_context(
            viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, bypass_csp=True
        )
        yield await context.new_page()


async def test_on_a_phone_an_instrument_has_its_figures_in_two_lines(served, phone):
    await open_page(phone, served.address, "watchlist")
    await expect(phone.get_by_test_id("instruments")).to_have_text("24 instruments", timeout=30_000)
    await until(lambda: served.board()["counters"]["ticks"] > 3000, "some ticks")
    await reaches(
        phone, "[...document.querySelectorAll('td[data-field=change]')].some(c => / %\\n.* %/.test(c.textContent))"
    )
    row = await row_of(phone, "AAPL")
    name, age = row["instrument"].split("\n")
    assert (name, age) == ("AAPL", "< 1 s")
    last, vwap = map(number, row["last"].split("\n"))
    change, distance = row["change"].split("\n")
    assert change.endswith("%")
    # Written with two decimals, of a price that is written with two.
    assert number(distance.removesuffix("%")) == pytest.approx(100 * (last / vwap - 1), abs=0.011)
    assert len(row["volume"].split("\n")) == 2
    clipped = await phone.evaluate(
        "[...document.querySelectorAll('regular-table :is(td, th)')]"
        ".filter(c => c.scrollWidth > c.clientWidth).map(c => c.textContent)"
    )
    assert clipped == []
    # Each line of a head sorts by what it names.
    head = phone.locator("th[data-field=change]")
    for at, title in ((0.25, "Change ↓\nTo VWAP"), (0.75, "Change\nTo VWAP ↓")):
        box = await head.bounding_box()
        await phone.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] * at)
        await reaches(phone, f"document.querySelector('th[data-field=change]').textContent.startsWith({title!r})")
    await reaches(phone, "(() => { const p = [...document.querySelectorAll('td[data-field=change]')]"
                         ".map(c => parseFloat(c.textContent.split('\\n')[1].replace('\u2212', '-')));"
                         " return p.length > 5 && p.every((x, i) => i === 0 || x <= p[i - 1]) })()")  # fmt: skip
    # By name again, so that no row moves under the finger.
    await phone.locator("th[data-field=instrument]").tap(position={"x": 20, "y": 12})
    await reaches(phone, "document.querySelector('td[data-field=instrument]').textContent.startsWith('AAPL')")
    await phone.get_by_test_id("quote").filter(has_text="AMZN").tap()
    await expect(phone.get_by_test_id("instrument")).to_have_value("AMZN")


async def test_on_a_phone_a_trade_has_its_time_and_reason_and_opens_by_a_tap(served, phone):
    await open_page(phone, served.address)
    await phone.get_by_role("radio", name="Invalid").tap()
    await phone.get_by_test_id("pause").tap()
    await expect(phone.get_by_test_id("waiting")).to_have_text(re.compile(r"^[\d\s]+ trades wait\. Resume goes on\.$"))
    await expect(phone.get_by_test_id("trade").first).to_be_visible(timeout=30_000)
    cells = await phone.get_by_test_id("trade").first.evaluate(
        "row => [...row.cells].map(c => c.textContent.split('\\n'))"
    )
    assert [len(lines) for lines in cells] == [2, 2, 2]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", cells[0][1])
    status, reason = cells[2]
    assert status == "✕ INVALID"
    assert reason
    await phone.get_by_test_id("trade").first.tap()
    await expect(phone.get_by_test_id("why-reason")).to_have_text(reason)


async def test_what_is_not_live_is_never_shown_as_live(served, page):
    await open_page(page, served.address, "watchlist")
    await expect(page.get_by_test_id("quote").first).to_have_attribute("data-stale", "false")
    served.stop()
    await expect(page.get_by_test_id("link")).not_to_have_attribute("data-state", "live", timeout=20_000)
    await reaches(
        page, "[...document.querySelectorAll('tr[data-testid=quote]')].every(r => r.dataset.stale === 'true')"
    )
    await reaches(
        page, "[...document.querySelectorAll('td[data-field=age]')].every(c => c.textContent.startsWith('stale'))"
    )
    # All of it, in the room that there is.
    why = page.get_by_test_id("link-detail")
    await expect(why).not_to_have_text("")
    for text in (await why.inner_text(), "the gateway is going down · next attempt in 30\u00a0s"):
        assert await why.evaluate(
            "(e, text) => { e.textContent = text; return e.scrollHeight <= e.clientHeight }", text
        )
    await page.keyboard.press("3")
    await expect(page.locator("[data-page=instrument] .headline")).to_have_attribute("data-stale", "true")


async def test_an_instrument_has_its_chart_with_what_was_refused_marked_on_it(served, page):
    await open_page(page, served.address, "instrument/AAPL")
    await ready(page, "instrument")
    chart = page.get_by_test_id("chart")
    points = int(await chart.get_attribute("data-points"))
    await reaches(page, f"Number(document.querySelector('[data-testid=chart]').dataset.points) > {points} + 50")
    await reaches(page, "Number(document.querySelector('[data-testid=chart]').dataset.marks) > 0", 90_000)
    activity = await asyncio.to_thread(served.get, "/api/activity")
    assert activity["rejects"][activity["instruments"].index("AAPL")] > 0
    rejected = page.locator("[aria-labelledby=recent-rejects] li")
    await rejected.first.click(timeout=30_000)
    await expect(page.get_by_test_id("why").get_by_role("link", name="AAPL")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.get_by_test_id("instrument").select_option("MSFT")
    await expect(page.get_by_role("img", name="Price and 20-minute VWAP of MSFT")).to_be_visible()
    assert page.url.endswith("#/instrument/MSFT")


async def test_rejects_are_counted_by_reason_rule_and_instrument_over_time(served, page):
    await open_page(page, served.address, "rejects")
    await ready(page, "rejects")
    await until(lambda: served.get("/api/rejects")["rejects"] > 30, "some rejects", 60)
    bars = page.locator("[aria-label='Rejects over time'] rect")
    await expect(bars.first).to_be_visible(timeout=15_000)
    reason = page.get_by_test_id("by-reason").locator("button", has_text="Price out of acceptable range")
    await reason.click(timeout=60_000)
    await expect(page.get_by_role("button", name="Remove reason Price out of acceptable range")).to_be_visible()
    await reaches(page, "[...document.querySelectorAll('[data-testid=reject] .reason')]"
                        ".every(r => r.textContent === 'Price out of acceptable range')")  # fmt: skip
    counts = await asyncio.to_thread(served.get, "/api/rejects?reason=Price%20out%20of%20acceptable%20range")
    shown = number(await page.get_by_test_id("rejects-total").inner_text())
    assert 0 < shown <= counts["rejects"]
    instrument = page.get_by_test_id("by-instrument").locator("button").first
    name = (await instrument.inner_text()).split()[0]
    await instrument.click()
    await reaches(page, f"[...document.querySelectorAll('[data-testid=reject] b:first-of-type')]"
                        f".every(b => b.textContent === '{name}')")  # fmt: skip
    await page.get_by_role("button", name="Remove reason Price out of acceptable range").click()
    await page.get_by_role("button", name=f"Remove instrument {name}").click()
    await page.get_by_test_id("by-rule").locator("button", has_text="screen").click()
    await expect(page.get_by_role("button", name="Remove rule screen")).to_be_visible()


async def test_a_refused_trade_tells_why_and_what_the_rules_say_now(served, page):
    await open_page(page, served.address, "rejects")
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


async def test_a_reject_of_a_rule_shows_what_it_saw_and_the_limit(served, page):
    await open_page(page, served.address, "rejects/size")
    await page.get_by_test_id("reject").first.click(timeout=60_000)
    refused = page.get_by_test_id("why").locator("tr[data-outcome=refused]")
    await expect(refused).to_contain_text("size")
    assert number(await refused.locator("td").nth(1).inner_text()) > 400_000
    assert number(await refused.locator("td").nth(2).inner_text()) == 400_000
    await expect(page.get_by_test_id("why")).to_contain_text("desk@")


async def test_a_valid_trade_opened_by_keys_passes_the_rules_of_now(served, page):
    await open_page(page, served.address)
    await page.locator("regular-table").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("radio", name="Valid", exact=False).first.check(force=True)
    await page.locator("regular-table").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("w")
    why = page.get_by_test_id("why")
    await expect(page.get_by_test_id("why-status")).to_contain_text("VALID")
    await expect(why.locator("tr[data-outcome=passed]", has_text="plausible")).to_be_visible()
    await expect(why.locator("tr[data-outcome='in shadow']")).to_contain_text("round_lot")
    await page.get_by_test_id("rejudge").click()
    await expect(page.get_by_test_id("rejudged")).to_have_attribute("data-status", "VALID")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("why")).to_have_count(0)


async def test_rules_show_their_cost_their_mode_and_what_they_would_refuse(served, page):
    await open_page(page, served.address, "rules")
    rule = page.locator("[data-rule=plausible]")
    await expect(rule).to_contain_text("closed")
    await reaches(page, r"/\d %/.test(document.querySelector('[data-rule=plausible]').textContent)")
    await expect(rule.locator("[data-mode]")).to_have_text("live")
    await expect(rule).to_contain_text("µs")
    shadow = page.locator("[data-rule=round_lot]")
    await expect(shadow.locator("[data-mode]")).to_have_text("shadow")
    await expect(shadow.get_by_test_id("rule-rejects")).to_contain_text("would be")
    await reaches(
        page, "parseInt(document.querySelector('[data-rule=round_lot] [data-testid=rule-rejects]').textContent) > 0"
    )
    rules = {row["name"]: row for row in (await asyncio.to_thread(served.get, "/api/rules"))["rules"]}
    assert (rules["plausible"]["mode"], rules["round_lot"]["mode"]) == ("live", "shadow")
    assert rules["round_lot"]["rejects"] > 0
    # None of them was refused.
    found = await asyncio.to_thread(served.get, "/api/search?reason=Odd%20lot")
    assert found["trades"] == []
    await expect(page.get_by_test_id("rule-set")).to_contain_text("desk@")
    await rule.get_by_role("link").click()
    await expect(page.get_by_role("button", name="Remove rule plausible")).to_be_visible()


async def test_the_pipeline_shows_each_stage_of_this_browser_and_the_clock(served, page):
    await open_page(page, served.address, "pipeline")
    await expect(page.get_by_test_id("processor")).to_have_text("live")
    for stage in ("decode", "rules", "enrich", "tape", "send", "wire", "paint"):
        await expect(page.locator(f"[data-stage={stage}] td").first).to_contain_text("ms", timeout=15_000)
    await expect(page.get_by_test_id("clock")).to_contain_text("by pings")
    assert 0 < number((await page.get_by_test_id("total").inner_text()).split()[0]) < 1000
    await expect(page.get_by_test_id("clients")).to_have_text("1")
    workers = await page.get_by_test_id("workers").inner_text()
    assert all(str(worker["pid"]) in workers for worker in served.board()["workers"])
    assert number(await page.get_by_test_id("dead-letters").inner_text()) <= served.board()["counters"]["undecodable"]
    # Other pages need no stages, and the stream goes on without a seam.
    await page.keyboard.press("1")
    received = await page.evaluate("tickcast.received")
    await reaches(page, f"tickcast.received > {received} + 300")
    assert await page.evaluate("tickcast.missing + tickcast.gapped + tickcast.duplicates") == 0


@pytest.mark.nats
async def test_the_pipeline_shows_how_far_the_source_is_behind(stream, page, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nimport numpy as np\nimport tickcast as tc\nrules = tc.RuleSet('slow')\n"
        "@rules.check(reason='no')\ndef slow(ticks):\n    time.sleep(0.1)\n    return np.ones(len(ticks), bool)\n"
    )
    slow = ("--rules", "slow:rules", "--set", "judge.batch_rows=50", "--set", "judge.in_flight=1")
    with Served(tmp_path, "--source", stream.source, *slow) as served:
        await page.goto(f"http://{served.address}/#/pipeline")
        await reaches(page, "window.tickcast?.state === 'live'")
        await stream.publish(40_000)
        lag = page.locator("[data-testid=lag][data-partition=TICKS]")
        await expect(lag).to_be_visible(timeout=30_000)
        await until(lambda: served.board() if (served.board()["partitions"][0]["lag"] or 0) > 0 else None, "lag")
        await reaches(page, "Number(document.querySelector('[data-testid=lag]').dataset.lag) > 0")
