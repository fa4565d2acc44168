"""The blotter as a trader uses it, in a real Chromium: recorded ticks that stand still, and a market that does not."""

import csv
import re

import pytest
from playwright.async_api import expect

from fixtures.dashboard import RULES, number, open_page, reaches, real_ticks
from fixtures.serving import Served, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
def market(tmp_path):
    with Served(tmp_path, "--source", "sim://?rate=300&instruments=24&seed=7", *RULES) as running:
        yield running


@pytest.fixture
async def recorded(tmp_path, page):
    """The page, on recorded ticks that have all come."""
    source = f"replay:{real_ticks(tmp_path)}?pace=max"
    with Served(tmp_path, "--source", source, *RULES) as served:
        await until(lambda: served.board()["source"]["state"] == "ended", "the end of the recording")
        await open_page(page, served.address)
        await reaches(page, "tickcast.painted === tickcast.received && tickcast.received > 1000")
        yield served


async def cells(page, field):
    return await page.locator(f"td[data-field={field}]:visible").all_inner_texts()


async def shown(page):
    """Return how many trades the foot says are shown."""
    return number((await page.get_by_test_id("shown").inner_text()).split(" shown")[0])


async def exported(page, path):
    async with page.expect_download() as download:
        await page.get_by_test_id("export").click()
    await (await download.value).save_as(path)
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


async def test_status_and_reason_filter_what_the_gateway_counted(recorded, page, tmp_path):
    assert await page.get_by_test_id("source-text").inner_text() == "ended"
    for status in ("valid", "invalid"):
        count = number(await page.get_by_test_id(status).inner_text())
        await page.locator(f"input[value={status.upper()}]").check(force=True)
        await reaches(page, f"document.querySelector('[data-testid=shown]').textContent.startsWith('{count:,.0f} shown'"
                            ".replace(',', '\u202f'))")  # fmt: skip
        assert {text.split()[-1] for text in await cells(page, "status")} <= {status.upper()}
    reasons = set(await cells(page, "reason"))
    one = sorted(reasons)[0]
    await page.get_by_test_id("filter-reason").fill(one.upper()[:30])
    rows = await exported(page, tmp_path / "reasons.csv")
    assert rows
    assert all(row["status"] == "INVALID" and one[:30].lower() in row["reason"].lower() for row in rows)
    assert len(rows) == await shown(page)


async def test_columns_are_chosen_kept_and_exported(recorded, page, tmp_path):
    await page.get_by_test_id("columns").click()
    await page.get_by_role("checkbox", name="Volume").uncheck()
    await page.get_by_role("checkbox", name="Trade id").check()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("columns")).to_have_attribute("aria-expanded", "false")
    assert await page.locator("th[data-field=volume]").count() == 0
    rows = await exported(page, tmp_path / "columns.csv")
    assert list(rows[0]) == [
        "seq", "timestamp_ns", "instrument", "price", "vwap", "distance", "status", "reason", "tradeId",
    ]  # fmt: skip
    assert len(rows) == await shown(page)
    trade = recorded.get(f"/api/trades/{rows[0]['seq']}")
    assert (rows[0]["tradeId"], rows[0]["timestamp_ns"]) == (trade["tradeId"], trade["timestampNs"])
    assert float(rows[0]["price"]) == trade["price"]
    await page.reload()
    await reaches(page, "window.tickcast?.painted > 1000")
    assert await page.locator("th[data-field=volume]").count() == 0
    await page.get_by_test_id("columns").click()
    await page.get_by_role("button", name="Usual columns").click()
    await expect(page.locator("th[data-field=volume]")).to_be_visible()


async def test_every_column_sorts_both_ways_and_back(recorded, page, tmp_path):
    for field, key in (("price", float), ("volume", int), ("instrument", str), ("distance", float)):
        head = page.locator(f"th[data-field={field}]")
        for order in ("descending", "ascending"):
            await head.click()
            await expect(head).to_have_attribute("aria-sort", order)
            values = [key(row[field]) for row in await exported(page, tmp_path / "sorted.csv") if row[field] != ""]
            assert values == sorted(values, reverse=order == "descending")
        await head.click()
        await expect(head).to_have_attribute("aria-sort", "none")
    seqs = [int(row["seq"]) for row in await exported(page, tmp_path / "sorted.csv")]
    assert seqs == sorted(seqs, reverse=True)


async def test_a_row_is_chosen_by_keys_copied_and_opened(recorded, page, tmp_path):
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    grid = page.locator("regular-table")
    await grid.focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("End")
    await page.keyboard.press("Home")
    await expect(page.locator("tr[aria-selected=true]")).to_have_count(1)
    rows = await exported(page, tmp_path / "rows.csv")
    await grid.focus()
    await page.keyboard.press("Control+c")
    await reaches(page, "document.querySelector('[data-testid=live-region]').textContent === 'Copied'")
    assert (await page.evaluate("navigator.clipboard.readText()")).split("\t") == list(rows[0].values())
    await page.keyboard.press("w")
    await expect(page.get_by_test_id("why")).to_be_visible()
    await page.get_by_role("button", name="Copy link").click()
    await reaches(page, "document.querySelector('[data-testid=live-region]').textContent === 'Link copied'")
    link = await page.evaluate("navigator.clipboard.readText()")
    trade = recorded.get(f"/api/trades/{rows[0]['seq']}")
    assert link.endswith(f"#/blotter?trade={trade['tradeId']}")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("why")).to_have_count(0)
    # Somebody else opens it.
    await page.goto("about:blank")
    await page.goto(link)
    await expect(page.get_by_test_id("why").locator("code")).to_have_text(trade["tradeId"])
    await page.goto(link[:-1] + ("0" if link[-1] != "0" else "1"))
    await expect(page.get_by_test_id("why")).to_contain_text("no trade on the tape has the id")


async def test_times_are_local_or_the_exchanges_and_prices_have_their_decimals(recorded, page, tmp_path):
    times, first = {}, page.locator("td[data-field=time]").first
    for zone in ("UTC", "Asia/Tokyo"):
        before = await first.inner_text()
        await page.get_by_test_id("zone").select_option(zone)
        await page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        if times:  # the first may be the machine's own
            await expect(first).not_to_have_text(before)
        hours, minutes, rest = (await first.inner_text()).split(":")
        times[zone] = int(hours), minutes, rest
    assert (times["UTC"][0] + 9) % 24 == times["Asia/Tokyo"][0]
    assert times["UTC"][1:] == times["Asia/Tokyo"][1:]
    await page.reload()
    await expect(page.get_by_test_id("zone")).to_have_value("Asia/Tokyo")
    await page.locator("input[value=VALID]").check(force=True)
    await expect(page.locator("td[data-field=status]", has_text="INVALID")).to_have_count(0)
    by_instrument = {}
    for name, price in zip(await cells(page, "instrument"), await cells(page, "price"), strict=True):
        by_instrument.setdefault(name, set()).add(len(price.partition(".")[2]))
    assert by_instrument
    assert all(len(decimals) == 1 for decimals in by_instrument.values()), by_instrument


async def test_help_lists_the_keys_and_gives_the_focus_back(recorded, page):
    await page.locator("regular-table").focus()
    await page.keyboard.press("?")
    help_dialog = page.get_by_test_id("help")
    for key in ("/", "Space", "w or Enter", "c", "e", "?"):
        await expect(help_dialog.locator("kbd", has_text=re.compile(f"^{re.escape(key)}$"))).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(help_dialog).to_have_count(0)
    assert await page.evaluate("document.activeElement.tagName") == "REGULAR-TABLE"


async def test_a_pause_stands_still_counts_what_waits_and_is_caught_up_on(market, page, tmp_path):
    await open_page(page, market.address)
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
    painted = await page.evaluate("tickcast.painted")
    await reaches(page, "window.tickcast.waiting > 600")
    assert await rows.first.inner_text() == first
    waiting = number(await page.get_by_test_id("waiting").locator("b").inner_text())
    assert waiting > 300
    await page.locator("th[data-field=price]").click()
    await expect(page.locator("th[data-field=price]")).to_have_attribute("aria-sort", "descending")
    prices = [number(text) for text in await cells(page, "price")]
    assert prices == sorted(prices, reverse=True)
    async with page.expect_download() as download:
        await page.keyboard.press("e")
    await (await download.value).save_as(tmp_path / "shown.csv")
    exported_rows = list(csv.DictReader((tmp_path / "shown.csv").open(encoding="utf-8", newline="")))
    assert {row["instrument"] for row in exported_rows if row["status"] == "VALID"} == {"AAPL"}
    assert [float(row["price"]) for row in exported_rows][: len(prices)] == prices
    await page.keyboard.press("Space")
    await reaches(page, f"tickcast.waiting < 100 && tickcast.painted > {painted} + 600")
    await expect(page.get_by_test_id("shown")).to_be_visible()


async def test_a_change_flashes_with_a_shape_and_not_at_all_where_motion_is_not_wanted(tmp_path, page):
    with Served(tmp_path, "--source", "sim://?rate=10&instruments=3&seed=7") as served:
        await page.emulate_media(reduced_motion="no-preference")
        await open_page(page, served.address)
        await reaches(page, "document.querySelector('tr.fresh')", 30_000)
        await reaches(
            page, "document.querySelector('td[data-move=up]') && document.querySelector('td[data-move=down]')"
        )
        shapes = await page.evaluate(
            "['up', 'down'].map((move) => getComputedStyle(document.querySelector(`td[data-move=${move}]`), '::before')"
            ".content)"
        )
        assert len(set(shapes)) == 2
        flash = "getComputedStyle(document.querySelector('tr.fresh td')).backgroundColor"
        still = "rgba(0, 0, 0, 0)"
        await reaches(page, f"document.querySelector('tr.fresh td') && {flash} !== '{still}'")
        await page.emulate_media(reduced_motion="reduce")
        await reaches(page, f"document.querySelector('tr.fresh td') && {flash} === '{still}'")
