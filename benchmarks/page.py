"""Size of a report page and its speed in a browser, for any number of latents.

Run ``python -m benchmarks.page RUN --latents 200 5000``. The latents of an SAE that has fewer are repeated, each under
a number of its own. It needs playwright and Chromium. Times are medians of the repeats in milliseconds: until the first
paint, until the latents are ready, for one more letter in the search field, and for another order of the list.
"""

import argparse
import copy
import dataclasses
import gzip
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from sae_lightning.report.explorer import context_of
from sae_lightning.report.latents import ShownLatents, gather
from sae_lightning.report.page import page
from sae_lightning.runs import Run, experiments_of

_SEARCH = """text => {
  const field = document.getElementById("lx-search"), begin = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  document.body.offsetHeight;
  return performance.now() - begin;
}"""
_SORT = """number => {
  const field = document.getElementById("lx-sort"), begin = performance.now();
  field.selectedIndex = number % field.options.length;
  field.dispatchEvent(new Event("change", {bubbles: true}));
  document.body.offsetHeight;
  return performance.now() - begin;
}"""


def enlarged(shown: ShownLatents, n: int) -> ShownLatents:
    """Return the same members with n latents each."""
    members = []
    for member in shown.members:
        records = [copy.copy(member.latents[i % len(member.latents)]) for i in range(n)]
        for i, record in enumerate(records):
            record["latent"] = i
        members.append(dataclasses.replace(member, latents=records, d_sae=n))
    return dataclasses.replace(shown, members=members)


def measure(browser: Any, path: Path) -> dict[str, float]:
    """Visit the page once and return its times in milliseconds."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(path.as_uri())
    tab.wait_for_selector("#explorer[data-ready]", state="attached", timeout=120_000)
    times = {
        "ready": tab.evaluate("performance.now()"),
        "paint": tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "search": median(tab.evaluate(_SEARCH, "the"[:i]) for i in (1, 2, 3)),
        "sort": median(tab.evaluate(_SORT, i) for i in (1, 2, 0)),
    }
    tab.close()
    return times


def main() -> None:
    """Print a line for each number of latents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--latents", type=int, nargs="+", default=[200, 5000], help="latents of each SAE")
    parser.add_argument("--repeats", type=int, default=5, help="visits")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    run = Run(args.run)
    shown = gather(run, max(args.latents))
    assert shown is not None, "the run has no SAEs"
    print("latents  SAEs  page MB  gzip MB  paint ms  ready ms  search ms  sort ms")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for n in args.latents:
            path = Path(folder) / f"{n}.html"
            text = page(experiments_of([run]), context_of(enlarged(shown, n), None)).encode("utf-8", "replace")
            path.write_bytes(text)
            visits = [measure(browser, path) for _ in range(args.repeats)]
            times = {name: median(visit[name] for visit in visits) for name in visits[0]}
            sizes = f"{len(text) / 1e6:8.2f} {len(gzip.compress(text)) / 1e6:8.2f}"
            columns = " ".join(f"{times[name]:9.0f}" for name in ("paint", "ready", "search", "sort"))
            print(f"{n:7} {len(shown.members):5} {sizes} {columns}")
        browser.close()


if __name__ == "__main__":
    main()
