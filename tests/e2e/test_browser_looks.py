"""How the dashboard looks and loads, in a real Chromium: sizes, themes, screen readers, its policy, its weight."""

import asyncio
import contextlib
import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import expect

from fixtures.chromium import launched
from fixtures.dashboard import PAGES, open_page, reaches, ready, write_desk
from fixtures.processes import free_port
from fixtures.serving import Served, until

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
SIZES = (("dark", 1280, 720), ("light", 1280, 720), ("dark", 390, 844))
MOST_SHIFT = 0.01
"""Of the layout; Web Vitals call 0.1 good."""
NOT_SERVED = ("@biomejs", "@typescript", "typescript", "axe-core", ".cache", ".vite")
"""Packages that checking and testing need, and a page does not."""
MOST_SCRIPT_BYTES = 350_000

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def shots(tmp_path):
    """Where pictures go; `TICKCAST_TEST_SCREENSHOTS=docs/screenshots` takes those of the documentation anew."""
    folder = Path(os.environ.get("TICKCAST_TEST_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def served(tmp_path):
    rules = write_desk(tmp_path)
    with Served(tmp_path, "--source", "sim://?rate=300&instruments=24&seed=7", *rules) as running:
        yield running


async def test_no_page_has_serious_faults_for_people_who_can_not_see_it(served, page):
    script = AXE.read_text()
    for name in PAGES:
        await open_page(page, served.address, name)
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
    for name in ("blotter", "watchlist"):
        await open_page(page, served.address, name)
        await ready(page, name)
        assert await page.evaluate("document.querySelectorAll('regular-table').length") == 1
        assert await page.evaluate("document.querySelectorAll('regular-table[tabindex=\"0\"]').length") == 1
        assert await page.evaluate("document.querySelectorAll('regular-table [tabindex=\"0\"]').length") == 0


async def test_changes_are_said_politely_and_not_too_often(served, page):
    await open_page(page, served.address)
    await page.evaluate(
        "window.said = []; const region = document.querySelector('[data-testid=live-region]');"
        "new MutationObserver(() => said.push([performance.now(), region.textContent]))"
        ".observe(region, {childList: true, characterData: true, subtree: true})"
    )
    assert await page.get_by_test_id("live-region").get_attribute("aria-live") == "polite"
    received = await page.evaluate("tickcast.received")
    await reaches(page, f"tickcast.received > {received} + 3000")
    said = await page.evaluate("said")
    assert len(said) <= 1 + (said[-1][0] - said[0][0]) / 5000 if said else True
    served.stop()
    await reaches(page, "said.some(([, text]) => /Gateway (stale|reconnecting)/.test(text))")


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
async def test_nothing_moves_under_the_reader(served, chromium, width, height):
    """A second visit, with the font in the cache: the first frame is laid out as the last one."""
    await until(lambda: served.board()["counters"]["ticks"] > 2000, "some ticks")
    async with launched(chromium) as browser:
        context = await browser.new_context(
            viewport={"width": width, "height": height}, bypass_csp=True, has_touch=width < 500, is_mobile=width < 500
        )
        first = await context.new_page()
        await open_page(first, served.address)
        await context.add_init_script(
            "window.shifts = []; new PerformanceObserver((list) => {"
            " for (const one of list.getEntries()) if (!one.hadRecentInput)"
            " shifts.push([one.value, one.sources.map((s) => s.node?.className || s.node?.nodeName)]) })"
            ".observe({type: 'layout-shift', buffered: true})"
        )
        for name in PAGES:
            page = await context.new_page()
            await open_page(page, served.address, name)
            await ready(page, name)
            before = await page.evaluate("tickcast.lastSeq")
            await reaches(page, f"tickcast.lastSeq > {before} + 900")
            shifts = await page.evaluate("shifts")
            assert sum(value for value, _ in shifts) < MOST_SHIFT, (name, shifts)
            await page.close()
        await first.close()


async def test_themes_follow_the_system_until_somebody_chooses(served, page):
    await page.emulate_media(color_scheme="light")
    await open_page(page, served.address)
    background = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    await page.emulate_media(color_scheme="dark")
    await reaches(page, f"{background} !== '{light}'")
    await page.get_by_test_id("theme").click()
    await page.get_by_test_id("theme").click()
    assert await page.get_by_test_id("theme").get_attribute("title") == "Theme: light"
    assert await page.evaluate(background) == light
    await page.reload()
    await reaches(page, "window.tickcast?.state === 'live'")
    assert await page.evaluate(background) == light


async def test_the_page_lives_under_its_policy_and_weighs_little(served, chromium):
    async with launched(chromium) as browser:
        page = await (await browser.new_context()).new_page()  # the policy holds
        violations, scripts = [], {}
        page.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: violations.append(str(error)))

        def note(response):
            if response.url.endswith(".js"):
                scripts[response.url] = response.headers

        page.on("response", note)
        answer = await page.goto(f"http://{served.address}/")
        policy = answer.headers["content-security-policy"]
        assert "'unsafe-eval'" not in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert re.search(r"default-src '(none|self)'", policy)
        for name in PAGES:
            await page.get_by_test_id(f"nav-{name}").click()
            await ready(page, name)
        assert violations == []
        assert scripts
        for headers in scripts.values():
            assert headers["content-encoding"] in ("br", "gzip")
            assert headers["cache-control"] == "public, max-age=31536000, immutable"
        weight = sum(int(headers["content-length"]) for headers in scripts.values())
        assert weight <= MOST_SCRIPT_BYTES, scripts.keys()


@contextlib.asynccontextmanager
async def dev_server(gateway, folder):
    """Run `npm run dev` on a copy of the sources, for whoever edits them."""
    # The packages too: the server gives out nothing from elsewhere.
    shutil.copytree(ROOT / "web", folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SERVED))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "npm", "run", "dev", "--", "--port", str(port), "--strictPort",
        cwd=folder, env=os.environ | {"TICKCAST_GATEWAY": f"http://{gateway}", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        while f":{port}" not in (line := (await process.stdout.readline()).decode()):
            assert line, "the development server has ended"
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()


async def test_the_development_server_carries_the_stream_and_reloads_what_is_edited(served, page, tmp_path):
    folder = tmp_path / "web"
    async with dev_server(served.address, folder) as address:
        await open_page(page, address)
        await expect(page.get_by_test_id("source")).to_have_attribute("data-state", "live")
        await page.keyboard.press("6")
        await expect(page.get_by_test_id("processor")).to_have_text("live", timeout=15_000)  # /api
        style = folder / "src/view/style.css"
        style.write_text(style.read_text() + "\nbody { outline: 3px solid rgb(1, 2, 3); }\n")
        await reaches(page, "getComputedStyle(document.body).outlineColor === 'rgb(1, 2, 3)'")
        shell = folder / "src/view/shell.tsx"
        shell.write_text(shell.read_text().replace("Skip to content", "Edited just now"))
        await expect(page.get_by_text("Edited just now")).to_be_attached(timeout=20_000)


async def test_pages_look_as_they_do_in_the_documentation(served, chromium, shots):
    """Not compared pixel by pixel: fonts and figures differ. That they fit without scrolling sideways is."""
    await until(lambda: served.board()["counters"]["ticks"] > 6000, "some ticks to show", 60)
    async with launched(chromium) as browser:
        for theme, width, height in SIZES:
            context = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, bypass_csp=True,
                has_touch=width < 500, is_mobile=width < 500,
            )  # fmt: skip
            page = await context.new_page()
            for name in PAGES:
                await open_page(page, served.address, name)
                await ready(page, name)
                await reaches(page, "parseFloat(document.querySelector('[data-testid=rate]').textContent) > 100")
                if name == "rules":
                    await reaches(page, r"/\d %/.test(document.querySelector('[data-rule=plausible]').textContent)")
                shape = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert shape[0] <= shape[1], (name, theme, shape)
                size = "phone" if width < 500 else theme
                await page.screenshot(path=shots / f"{name}-{size}.png", animations="disabled")
            await context.close()
