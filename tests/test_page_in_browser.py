"""The page in Chromium: no error, no request, every figure drawn, on a phone and on a desk, by day and by night."""

import shutil
from pathlib import Path

import pytest

from collectiverl.pipeline.described import described
from collectiverl.reporting.page.page import page
from run_folders import finished_run

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000  # milliseconds, for a machine that is busy
DRAWN = """() => [...document.querySelectorAll('.plot')].filter((place) => {
  const picture = place.querySelector('.main-svg');
  return !picture || picture.getBoundingClientRect().width < 100 || !place.querySelector('.trace, .hm, .points');
}).map((place) => place.id)"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} was found")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    runs = [finished_run(folder / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    file = Path(folder / "page.html")
    file.write_text(page([described(run) for run in runs]))
    return file.as_uri()


def opened(browser, address: str, width: int):
    """A tab with the page, all figures drawn."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    tab, errors, requests = context.new_page(), [], []
    tab.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("html[data-drawn]")
    return tab, errors, requests


@pytest.mark.slow
@pytest.mark.parametrize("width", [380, 1400])
def test_every_figure_is_drawn_without_an_error_or_a_request(browser, address, width):
    tab, errors, requests = opened(browser, address, width)
    assert tab.evaluate(DRAWN) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # nothing has to be moved sideways
    for select in tab.query_selector_all("select"):
        for option in select.query_selector_all("option"):
            select.select_option(option.get_attribute("value") or option.text_content())
    tab.click("button.play-all")
    tab.wait_for_function(
        "[...document.querySelectorAll('.films video')].some((film) => film.currentTime > 0)"
    )
    ink = "getComputedStyle(document.querySelector('.main-svg .xtick text')).fill"
    by_day = tab.evaluate(ink)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function(f"(before) => {ink} !== before", arg=by_day)  # figures follow
    assert tab.evaluate(DRAWN) == []
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", "blob:", address))] == []
    tab.context.close()


@pytest.mark.slow
def test_a_figure_is_chosen_and_a_film_played_by_keyboard(browser, address):
    tab, *_ = opened(browser, address, 1400)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    first = tab.query_selector("select[data-chooses]")
    shown = "(id) => document.getElementById(id).data[0].x.length"
    before = tab.evaluate(shown, first.get_attribute("data-chooses"))
    first.focus()
    tab.keyboard.press("End")
    tab.wait_for_function(
        f"(before) => ({shown})('{first.get_attribute('data-chooses')}') !== before", arg=before
    )
    film = tab.query_selector(".films video")
    film.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.activeElement.getAttribute('aria-pressed') === 'true'")
    tab.context.close()
