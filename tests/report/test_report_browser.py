"""The page in a browser: from disk, without a network, by keyboard, on a phone, in the dark and on paper."""

import pytest


@pytest.fixture
def opened(run, browser_page):
    browser_page.goto((run / "report.html").as_uri())
    return browser_page


def test_headings_follow_each_other_and_landmarks_are_there(opened):
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(of => +of.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert opened.locator(landmark).count() == 1


def test_by_keyboard(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert opened.locator(".skip").bounding_box()["x"] >= 0
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"
    opened.keyboard.press("Tab")
    outline = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    opened.locator("summary").first.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("figure table").first.is_visible()


def test_charts_have_a_name_and_tables_have_heads(opened):
    opened.evaluate("document.querySelectorAll('details').forEach(of => { of.open = true; })")
    charts = opened.get_by_role("img")
    assert charts.count() == opened.locator("svg").count() > 5
    assert opened.get_by_role("img", name="Explained variance", exact=True).count() == 1
    assert opened.evaluate("[...document.querySelectorAll('th')].every(of => of.scope)")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_fits_the_screen(opened, tmp_path, width, scheme):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme=scheme)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = opened.evaluate(
        "[...['color', 'backgroundColor']].map(of => +getComputedStyle(document.body)[of].match(/\\d+/)[0])"
    )
    assert (ink > paper) == (scheme == "dark")
    fill = "getComputedStyle(document.querySelector('svg text')).fill"
    assert opened.evaluate(fill) == opened.evaluate("getComputedStyle(document.body).color")
    opened.screenshot(path=tmp_path / f"{width}.png", full_page=True)


@pytest.mark.parametrize("width", [1280, 800, 360])
def test_no_table_is_cut(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.evaluate("document.querySelectorAll('details').forEach(of => { of.open = true; })")
    wide = "[...document.querySelectorAll('table')].filter(of => of.scrollWidth > of.parentElement.clientWidth + 1)"
    assert opened.locator("table").count() > 10
    assert opened.evaluate(f"{wide}.map(of => of.caption.textContent)") == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_folded_is_printed(opened):
    shown = "[...document.querySelectorAll('#run1-numbers table')].map(of => of.checkVisibility())"
    opened.emulate_media(media="print")
    assert opened.evaluate(shown)
    heights = "[...document.querySelectorAll('#run1-numbers table')].map(of => of.getBoundingClientRect().height)"
    assert min(opened.evaluate(heights)) > 20


def test_on_paper(opened):
    opened.emulate_media(media="print", color_scheme="dark")
    assert not opened.locator("nav").is_visible()
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.locator("svg").first.is_visible()
