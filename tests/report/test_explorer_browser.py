"""The explorer in a real browser, opened from disk, on made-up latents."""

from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment, FileSystemLoader
from jinja2.loaders import ChoiceLoader
from scipy.stats import binomtest

import sae_lightning.report
from sae_lightning.members import Member
from sae_lightning.report.explorer import CHUNK, IMAGES, context_of
from sae_lightning.report.latents import ShownLatents, ShownMember

HOSTILE = ["</script>", "<script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>", "{{ 7 * 7 }}"]
ODD = ["\u2028", "\ud800", "😀", "\u202e", "\n  ", "\t", "  two", "&amp;"]
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPj/HwADBwIAMCbHYQAAAABJRU5ErkJggg=="
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Test</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>{% include "explorer.css" %}</style></head>
<body><h1>Report</h1>{% include "explorer.html.j2" %}<script>{% include "explorer.js" %}</script></body></html>"""


def text(*tokens, peak=2.0):
    activations = [peak * (i + 1) / len(tokens) for i in range(len(tokens))]
    return {"type": "text", "tokens": list(tokens), "activations": activations}


def record(latent, **changes):
    examples = [text("the", f" word{latent}", peak=2.0 + latent / 10), text("a", " cat")]
    return {
        "latent": latent,
        "frequency": 0.0 if latent % 7 == 3 else (latent * 37 % 101 + 1) / 1000,
        "dead": False,
        "score": 0.5 + latent % 5 / 10 if latent % 2 == 0 else None,
        "explanation": f"fires on word{latent}" if latent % 2 == 0 else None,
        "stability": None if latent % 7 == 3 else latent * 53 % 101 / 101,
        "above_random": None if latent % 7 == 3 else 0.75,
        "cosine_to_start": 1 - latent % 10 / 20,
        "tokens": [f" word{latent}", " cat"],
        "examples": examples,
        "quarters": [[text("w", f" quarter{i}")] for i in range(4)],
        "histogram": {"n": 20, "most": 2.5, "counts": [i % 4 for i in range(20)], "cuts": [0.5, 1.2, 1.9]},
        "promoted": [[" yes", 0.5]],
        "suppressed": [[" no", -0.5]],
        "neighbours": [[latent + 1, 0.4], [99999, 0.3]],
        "together": [[latent + 2, 0.6]],
        "elsewhere": [["frozen_decoder/0", latent, 0.2], ["frozen_decoder/0", 99999, 0.1]],
        "logits": {"low": -0.5, "high": 0.5, "counts": [1, 8, 1]},
        "stitched": [],
        **changes,
    }


def member(name, n, **changes):
    records = [record(latent, **changes.get(f"of{latent}", {})) for latent in range(n)]
    return ShownMember(Member.parse(name), 2 * n, n, n // 2, records)


def save(path, members, split=None, **images):
    templates = FileSystemLoader(Path(sae_lightning.report.__file__).parent / "templates")
    environment = Environment(loader=ChoiceLoader([DictLoader({"page": PAGE}), templates]), autoescape=True)
    context = context_of(ShownLatents(members, "position" if images else "token", 1000, None, **images), split)
    path.write_text(environment.get_template("page").render(explorer=context), encoding="utf-8")
    return f"file://{path}"


@pytest.fixture
def browse(browser):
    """Opens a page; in the end nothing may have been said on its console or asked of a network."""
    told, contexts = [], []

    def browse(url, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or told.append(request.url))
        page.goto(url)
        page.wait_for_selector("#explorer[data-ready]")
        return page

    yield browse
    for context in contexts:
        context.close()
    assert told == []


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    meta = {"explained": 0.4, "latents": [[5, 0.5, [[7, 0.4], [250, 0.2]]], [9, 0.1, []]]}
    trained = member(
        "trained/0", 60,
        of4={"tokens": HOSTILE, "explanation": HOSTILE[2], "examples": [text(*HOSTILE, *ODD)]},
        of6={"meta": meta}, of7={"meta": meta},
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("page") / "page.html", [trained, member("frozen_decoder/0", 40)])


def listed(page, side="left"):
    """Numbers of the rows in sight."""
    return [int(of) for of in page.locator(f"[data-side={side}] [role=option] b").all_inner_texts()]


def title(page, side="left"):
    return " ".join(page.locator(f"[data-side={side}] .lx-latent h3").inner_text().split())


def test_two_saes_stand_side_by_side(browse, url):
    page = browse(url)
    assert title(page) == "● trained/0 latent 0"
    assert title(page, "right") == "■ frozen_decoder/0 latent 0"
    latent = page.locator("[data-side=left] .lx-latent")
    assert "fires on word0" in latent.inner_text()
    assert latent.locator("mark").first.get_attribute("title") == "activation 1"
    assert "0.1 % of tokens" in latent.inner_text()
    assert latent.locator(".lx-histogram svg").first.get_attribute("aria-label").endswith("median 1.2, largest 2.5")
    page.locator("[data-side=right] select").select_option("trained/0")
    page.wait_for_function("document.querySelector('[data-side=right] h3').textContent.includes('trained/0')")


def test_search_and_sort(browse, url):
    page = browse(url)
    page.get_by_label("Search").fill("WORD12")
    assert listed(page) == [12]
    page.get_by_label("Search").fill("17")
    assert listed(page) == [17]
    assert page.locator("[data-side=left] .lx-count").inner_text() == "1 of 60 here, of 120 in all"
    page.get_by_label("Search").fill("no such thing")
    assert listed(page) == []
    page.get_by_label("Search").fill("")
    page.get_by_label("Sort by").select_option("score")
    scores = [float(of) for of in page.locator("[data-side=left] [role=option] > :last-child").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.get_by_label("Sort by").select_option("stability")
    expected = sorted((latent for latent in range(60) if latent % 7 != 3), key=lambda latent: -(latent * 53 % 101))
    assert listed(page)[:5] == expected[:5]
    page.locator("[data-side=left] [role=option]").first.click()
    page.wait_for_function(f"document.querySelector('.lx-latent h3').textContent.includes('latent {expected[0]}')")
    shown = f"{expected[0] * 53 % 101 / 101:.3g}, above 75 % of random directions"
    assert shown in page.locator("[data-side=left] .lx-facts").inner_text()
    page.get_by_label("Sort by").select_option("cosine_to_start")
    assert listed(page)[0] == 9
    page.get_by_label("Sort by").select_option("frequency")
    expected = max((latent * 37 % 101, latent) for latent in range(60) if latent % 7 != 3)[1]
    assert listed(page)[0] == expected
    assert "class" not in page.get_by_label("Sort by").inner_text()


def test_a_latent_is_picked_from_the_overview(browse, url):
    page = browse(url)
    overview = page.locator("[data-side=left] .lx-overview")
    assert page.locator("#lx-y option").all_inner_texts() == ["score", "cosine to start", "stability over seeds"]
    dots = overview.locator(".lx-dot")
    assert dots.count() == sum(latent % 7 != 3 and latent % 2 == 0 for latent in range(60))
    overview.locator('[data-latent="12"]').dispatch_event("click")  # another one may lie over it
    page.wait_for_function("document.querySelector('.lx-latent h3').textContent.includes('latent 12')")
    assert overview.locator(".lx-chosen").get_attribute("data-latent") == "12"
    page.get_by_label("Overview").select_option("stability")
    assert dots.count() == sum(latent % 7 != 3 for latent in range(60))
    page.get_by_label("Search").fill("word12")
    assert overview.locator(".lx-dot:not(.lx-faint)").get_attribute("data-latent") == "12"


@pytest.mark.parametrize("scores", [[0.7] * 30, [0.5, 0.9] * 5 + [None] * 20], ids=["the same", "of a third"])
def test_the_overview_begins_with_an_axis_that_tells_latents_apart(browse, tmp_path, scores):
    changes = {f"of{latent}": {"score": score} for latent, score in enumerate(scores)}
    page = browse(save(tmp_path / "page.html", [member("trained/0", 30, **changes)]))
    assert page.locator("#lx-y").input_value() == "cosine_to_start"
    assert page.locator("#lx-y option").all_inner_texts()[-1] == "score"
    heights = {
        int(dot.get_attribute("data-latent")): float(dot.get_attribute("cy"))
        for dot in page.locator("[data-side=left] .lx-overview .lx-dot").all()
    }
    assert heights[0] < heights[5] < heights[9], "cosines of 1, 0.75 and 0.55"


def test_other_saes_are_a_link_away_and_the_link_can_be_copied(browse, url):
    page = browse(f"{url}#latent=trained/0/12&beside=frozen_decoder/0/7")
    left = page.locator("[data-side=left] .lx-latent")
    assert "Fires together with, of those here, by correlation\n14 0.6" in left.inner_text()
    assert left.get_by_role("img", name="adds to the logits of 10 tokens").count() == 1
    left.get_by_role("link", name="frozen_decoder/0 12").click()
    page.wait_for_function("document.querySelector('[data-side=right] h3').textContent.includes('latent 12')")
    assert title(page) == "● trained/0 latent 12"
    assert left.get_by_role("link", name="99999").count() == 0
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    left.get_by_role("button", name="Copy link").click()
    expected = f"{url}#latent=trained/0/12&beside=frozen_decoder/0/12"
    assert left.get_by_label("Link to this latent").input_value() == expected


def test_hostile_text_is_text(browse, url):
    page = browse(f"{url}#latent=trained/0/4")
    shown = page.locator("[data-side=left] .lx-text").first.inner_text()
    for part in (*HOSTILE, "😀", "\\ud800", "\\u202e", "⏎··", "⇥", "··two", "&amp;"):
        assert part in shown
    assert page.evaluate("window.hacked") is None
    assert page.locator("#explorer img").count() == 0
    assert page.locator(".lx-explanation").first.inner_text() == HOSTILE[2]


def test_the_list_and_the_shortcuts_answer_to_keys(browse, url):
    page = browse(url)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "lx-search"
    page.keyboard.type("r")  # a letter in a field is no command
    assert title(page) == "● trained/0 latent 0"
    page.get_by_label("Search").fill("")
    page.locator("[data-side=left] [role=listbox]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('.lx-latent h3').textContent.includes('latent 2')")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.lx-latent h3').textContent.includes('latent 59')")
    box = page.locator("[data-side=left] [role=listbox]")
    active = box.get_attribute("aria-activedescendant")
    chosen = page.locator(f"#{active}")
    assert (chosen.get_attribute("aria-selected"), chosen.get_attribute("aria-posinset")) == ("true", "60")
    assert page.evaluate("location.hash") == "#latent=trained/0/59&beside=frozen_decoder/0/0"
    page.locator("#lx-keys summary").click()
    page.get_by_label("Single keys do something").uncheck()
    page.locator("h1").click()
    page.keyboard.press("r")
    assert title(page) == "● trained/0 latent 59"


def test_everything_is_reached_with_tab(browse, url):
    page = browse(url)
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("lx-search", "lx-sort", "lx-random", "lx-blind-start", "lx-member", "lx-list"):
        assert name in reached
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_random_latents_fire(browse, url):
    page = browse(url)
    seen = set()
    for _ in range(30):
        page.keyboard.press("r")
        seen.add(int(page.evaluate("location.hash").split("&")[0].split("/")[-1]))
    assert len(seen) > 5
    assert not {latent for latent in seen if latent % 7 == 3}


def test_a_link_opens_its_latents_and_neighbours_are_links(browse, url):
    page = browse(f"{url}#latent=trained/0/12&beside=trained/0/13")
    assert title(page) == "● trained/0 latent 12"
    assert title(page, "right") == "● trained/0 latent 13"
    page.locator("[data-side=right] .lx-latent").get_by_role("link", name="14").click()
    page.wait_for_function("document.querySelector('[data-side=right] h3').textContent.includes('latent 14')")
    assert title(page) == "● trained/0 latent 12"
    assert page.get_by_role("link", name="99999").count() == 0
    page.go_back()
    page.wait_for_function("document.querySelector('[data-side=right] h3').textContent.includes('latent 13')")
    page.evaluate("location.hash = '#latent=trained/0/777'")
    page.wait_for_function("document.querySelector('.lx-latent').textContent.includes('not among those on this page')")


def test_meta_latents_lead_to_latents_and_back(browse, url):
    page = browse(f"{url}#latent=trained/0/6")
    page.get_by_role("link", name="latent 7, 0.4").click()
    page.wait_for_function("document.querySelector('.lx-latent h3').textContent.includes('latent 7')")
    page.get_by_role("link", name="meta-latent 5, 0.5: list its latents").click()
    page.wait_for_function("document.getElementById('lx-search').value === 'meta:5'")
    assert listed(page) == [6, 7]


def save_images(path, split=None):
    """Two SAEs of 60 latents with images, each of them with the second one, which would be fetched, beside its own."""
    images = {7 * i: {"src": PIXEL, "shows": f"shape {i}, {HOSTILE[2]}"} for i in range(IMAGES + 3)}
    images[7]["src"] = "https://example.com/x.png"
    heat = {"heat": [[0, 1.0], [0.5, 0]]}

    def shown(latent):
        own = {"type": "image", "image": 7 * (0 if latent == 1 else min(latent, IMAGES + 2)), "activation": 2.0}
        weak = {"type": "image", "image": 7, "activation": 1.0}
        quarter = [own | {"elsewhere": True} | heat]
        return record(latent, examples=[own | heat, weak], quarters=[quarter] * 4, tokens=[f"shape{latent}"])

    members = [
        ShownMember(Member(policy, 0), 60, 60, 0, [shown(latent) for latent in range(60)])
        for policy in ("trained", "untrained")
    ]
    return save(path, members, split, n_images=100, images=images)


@pytest.mark.parametrize("is_split", [False, True])
def test_images_have_a_heat_map_and_are_never_fetched(browse, tmp_path, is_split):
    page = browse(save_images(tmp_path / "page.html", tmp_path if is_split else None) + "#latent=trained/0/59")
    pane = page.locator("[data-side=left]")
    assert "images are from 1,000 held-out positions of 100 images" in page.locator("#explorer").inner_text()
    assert pane.locator("img").count() == 5
    alt = f"shape {IMAGES + 2}, {HOSTILE[2]}; activation 2"
    assert (
        pane.locator("img").first.get_attribute("alt") == pane.locator(".lx-frame").first.get_attribute("title") == alt
    )
    assert pane.locator("img").nth(1).get_attribute("alt") == f"{alt}, which is not at a patch"
    assert pane.locator("img").first.evaluate("of => of.complete && of.naturalWidth") == 1
    assert pane.locator(".lx-peak").all_inner_texts()[:3] == ["2", "1", "2 class"]
    assert pane.locator(".lx-heat").count() == 5
    levels = "of => [...of.children].map(cell => cell.style.getPropertyValue('--lx-level'))"
    assert pane.locator(".lx-heat").first.evaluate(levels) == ["", "0.50", "0.25", ""]
    assert "No image." in pane.inner_text()
    pane.get_by_role("button", name="Heat map").click()
    assert page.locator(".lx-heat:visible").count() == 0
    assert pane.get_by_role("button", name="Heat map").get_attribute("aria-pressed") == "false"
    assert page.evaluate("window.hacked") is None
    page.get_by_label("Search").fill("shape12")
    assert listed(page) == [12]
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.evaluate("Math.random = () => 1.5 / 60")  # latent 1, of which a browser would fetch one image more
    page.keyboard.press("g")
    page.wait_for_selector("[data-guess=trained]:visible")
    told = page.locator("#lx-blind .lx-latent").evaluate("node => node.outerHTML")
    assert "100 % of its maximum" in told
    for word in ("trained", "activation 2", "lx-badge", "cosine"):
        assert word not in told


def test_parts_of_images_are_opened_when_they_are_wanted(browse, tmp_path):
    page = browse(save_images(tmp_path / "page.html", tmp_path))
    loaded = "[...document.querySelectorAll('script[src]')].map(of => of.getAttribute('src')).join()"
    assert "images-0.js" in page.evaluate(loaded)
    assert "images-1.js" not in page.evaluate(loaded)
    page.locator("[data-side=left] [role=listbox]").press("End")
    page.wait_for_function("document.querySelector('.lx-latent h3').textContent.includes('latent 59')")
    assert page.evaluate(loaded).count("images-") == 2


def test_blind_mode_gives_nothing_away_and_keeps_a_tally(browse, url):
    page = browse(f"{url}#latent=trained/0/12")
    right = 0
    for n in range(1, 9):
        page.keyboard.press("g" if n == 1 else "n")
        page.wait_for_selector("[data-guess=trained]:visible")
        blind = page.locator("#lx-blind")
        told = blind.locator(".lx-latent").evaluate("node => node.outerHTML")
        for word in ("trained", "frozen", "score", "cosine", "activation 1", "fires on word", "neighbour", "lx-badge"):
            assert word not in told
        assert "trained/0" not in page.locator("#explorer").inner_text()
        assert "latent=" not in page.url
        page.keyboard.press("t" if n % 2 else "b")
        page.wait_for_selector("[data-next]:visible")
        assert page.evaluate("document.activeElement.hasAttribute('data-next')")
        answer = blind.locator("[aria-live=polite]").inner_text()
        right += "✓ Right" in answer
        assert ("of trained/0" in answer) == (("✓ Right" in answer) == bool(n % 2))
        assert f"{right} of {n} right" in answer
    page.reload()
    page.wait_for_selector("#explorer[data-ready]")
    page.keyboard.press("g")
    page.wait_for_selector("[data-guess=trained]:visible")
    assert f"{right} of 8 right" in page.locator("[aria-live=polite]").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#lx-panes").is_visible()


def test_blind_mode_takes_a_published_sae_for_the_trained_one(browse, tmp_path):
    members = [member("published/0", 20), member("random_encoder/0", 20)]
    page = browse(save(tmp_path / "page.html", members, references=["published"]))
    assert page.locator("#lx-blind-start").is_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_selector("[data-next]:visible")
    answer = page.locator("[aria-live=polite]").inner_text()
    assert ("published/0" in answer) == ("✓ Right" in answer)


def test_blind_mode_takes_one_half_from_the_trained_sae(browse, url):
    page = browse(url)
    policies = "['trained', 'frozen_decoder', 'frozen_encoder', 'untrained']"
    members = f"{policies}.map((policy) => ({{ policy, is_trained: policy === 'trained' }}))"
    n = page.evaluate(
        f"Array.from({{length: 4000}}, () => saeBlind.draw({members}).policy).filter(x => x === 'trained').length"
    )
    assert binomtest(n, 4000, 0.5).pvalue > 1e-6


def test_interval_is_that_of_the_binomial(browse, url):
    page = browse(url)
    for right, n in ((0, 1), (1, 1), (7, 10), (14, 20), (35, 40), (110, 200)):
        low, high = page.evaluate(f"saeBlind.interval({right}, {n})")
        expected = binomtest(right, n).proportion_ci(0.95, method="exact")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
        sentence = page.evaluate(f"saeBlind.sentence({right}, {n})")
        assert ("better than by chance" in sentence) == (expected.low > 0.5)
        assert ("no different from guessing" in sentence) == (expected.low <= 0.5 <= expected.high)


def test_five_thousand_latents_stay_quick_and_parts_open_on_demand(browse, tmp_path):
    page = browse(save(tmp_path / "page.html", [member("trained/0", 5000)]))
    assert page.locator("[role=option]").count() < 30
    assert page.locator(".lx-pane").count() == 1
    assert not page.locator("#lx-blind-start").is_visible()
    typed = """() => { const begin = performance.now(), field = document.getElementById('lx-search');
        field.value = 'word4999'; field.dispatchEvent(new Event('input')); return performance.now() - begin }"""
    assert page.evaluate(typed) < 1000
    assert listed(page) == [4999]


def test_parts_beside_the_page_are_loaded_when_they_are_wanted(browse, tmp_path):
    url = save(tmp_path / "page.html", [member("trained/0", 2 * CHUNK), member("frozen_decoder/0", 5)], split=tmp_path)
    page = browse(url)
    assert title(page) == "● trained/0 latent 0"
    loaded = "[...document.querySelectorAll('script[src]')].map(of => of.getAttribute('src')).join()"
    assert page.evaluate(loaded) == "latents/0-index.js,latents/1-index.js,latents/0-0.js,latents/1-0.js"
    page.locator("[data-side=left] [role=listbox]").press("End")
    page.wait_for_function(f"document.querySelector('.lx-latent h3').textContent.includes('latent {2 * CHUNK - 1}')")
    assert page.evaluate(loaded).endswith("latents/0-1.js")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_one_below_the_other(browse, url, scheme):
    page = browse(f"{url}#latent=trained/0/6", width=360, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    left, right = (page.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert right["y"] >= left["y"] + left["height"]


@pytest.mark.parametrize("width", [600, 800])
def test_two_stand_side_by_side_from_600_pixels_on(browse, url, width):
    page = browse(url, width=width)
    left, right = (page.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert right["y"] == left["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_question_is_in_sight(browse, url):
    page = browse(url)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.keyboard.press("g")
    page.wait_for_selector("[data-guess=trained]:visible")
    page.wait_for_function("document.querySelector('#lx-blind h3').getBoundingClientRect().top > -1")
    assert page.locator("[data-guess=trained]").bounding_box()["y"] < 900


def test_print_shows_the_latents_without_controls(browse, url):
    page = browse(url)
    page.emulate_media(media="print")
    assert not page.locator("#lx-bar").is_visible()
    assert not page.locator("[data-side=left] .lx-list").is_visible()
    assert page.locator("[data-side=left] .lx-text").first.is_visible()
