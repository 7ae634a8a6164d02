"""The page of ``sae scoreboard`` in a browser: it fits, it can be sorted, and by keyboard, too."""

import pytest
from checking.checks import control, sae, write

from sae_lightning.cli import main


def one(name, fingerprint, value, l0, verdict="beats", difference=0.2):
    content = sae(name, fingerprint, l0=l0)
    metric = content["metrics"]["explained_variance"]
    metric["value"] = value
    metric["controls"] = {"random_encoder": control("random_encoder", difference, 0.05, verdict)}
    return content


@pytest.fixture
def opened(tmp_path, browser_page):
    saes = [one("b", "1a", 0.8, 5.5), one("c", "2b", None, None, "unknown"), one("a", "3c", 0.9, 31, "loses", -0.3)]
    write(tmp_path / "a", *saes)
    main(["scoreboard", str(tmp_path / "a"), f"--html={tmp_path / 'board.html'}"])
    browser_page.goto((tmp_path / "board.html").as_uri())
    return browser_page


def order(page, table):
    return page.locator("table").nth(table).locator("tbody th").all_text_contents()


def test_a_click_sorts_by_number_and_again_the_other_way_round(opened):
    assert order(opened, 1) == ["a", "b", "c"]
    value = opened.locator("table").nth(1).get_by_role("button", name="value")
    value.click()
    assert order(opened, 1) == ["a", "b", "c"]
    assert opened.locator("table").nth(1).locator("th[aria-sort=descending]").text_content() == "value"
    value.click()
    assert order(opened, 1) == ["b", "a", "c"]  # without a number it stays last
    opened.locator("table").nth(0).get_by_role("button", name="l0").click()
    assert order(opened, 0) == ["a", "b", "c"]  # 31 before 5.5


def test_names_and_differences_sort_by_keyboard(opened):
    opened.locator("table").nth(1).get_by_role("button", name="Random encoder").focus()
    opened.keyboard.press("Enter")
    assert order(opened, 1)[-1] == "a"  # -0.3
    opened.locator("table").nth(1).get_by_role("button", name="SAE").press("Enter")
    assert order(opened, 1) == ["c", "b", "a"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_fits_the_screen(opened, width, scheme):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme=scheme)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    beats, loses = (opened.locator(f"td.{word}").first for word in ("beats", "loses"))
    colours = [cell.evaluate("of => getComputedStyle(of).color") for cell in (beats, loses)]
    assert colours[0] != colours[1]
