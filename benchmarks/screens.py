"""Screenshots of what people look at: pages, the terminal and TensorBoard, to be looked at one by one.

    python -m benchmarks.screens --pages RUN/report.html ... --tensorboard lightning_logs --terminal "sae fit ..."

A page gives the first screen and each of its sections, at 1280, 800 and 360 pixels, in light and dark, and itself as it
is printed. The terminal is a tmux of 80 columns, captured while the command runs and at its end. With ``--axe
axe.min.js`` (npm install axe-core) each page is also searched for what keeps people from reading it; findings are
printed, and the exit status is 1. It needs playwright, Chromium and, for the terminal, tmux.
"""

import argparse
import html
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.report import print_note

WIDTHS = (1280, 800, 360)
SCHEMES = ("light", "dark")
_HEIGHT = 900
_MOST_HEIGHT = 8000
"""Pixels of a section at most: more cannot be looked at."""
_COLUMNS, _LINES = 80, 50
_PORT = 6099
_SECONDS = 60


def main() -> int:
    """Write the pictures, and return 1 where a page has accessibility violations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("lightning_logs/screens"), help="folder, made if needed")
    parser.add_argument("--pages", type=Path, nargs="*", default=[], help="HTML files")
    parser.add_argument("--terminal", help="command to run in a terminal")
    parser.add_argument("--every", type=float, default=20, metavar="SECONDS", help="between captures of the terminal")
    parser.add_argument("--tensorboard", type=Path, metavar="LOGDIR", help="folder that TensorBoard shows")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    n_violations = 0
    with _browser() as browser:
        for page in args.pages:
            shoot_page(browser, page, args.out / page.stem)
            n_violations += len(violations(browser, page, args.axe)) if args.axe else 0
        if args.terminal:
            shoot_terminal(browser, args.terminal, args.out / "terminal", args.every)
        if args.tensorboard:
            shoot_tensorboard(browser, args.tensorboard, args.out / "tensorboard")
    return 1 if n_violations else 0


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def shoot_page(browser: Any, path: Path, out: Path) -> None:
    """Write the first screen and each section of a page, and the page as it is printed."""
    out.mkdir(parents=True, exist_ok=True)
    for width, scheme in product(WIDTHS, SCHEMES):
        tab = _opened(browser, path, width, scheme)
        tab.screenshot(path=out / f"{width}_{scheme}_first.png")
        for place, section in enumerate(tab.locator("main > section[id]").all()):
            box = section.bounding_box()
            clip = {"x": 0, "y": box["y"], "width": width, "height": min(box["height"], _MOST_HEIGHT)}
            name = f"{width}_{scheme}_{place:02}_{section.get_attribute('id')}.png"
            tab.screenshot(path=out / name, full_page=True, clip=clip)
        tab.close()
    tab = _opened(browser, path, WIDTHS[0], "light")
    tab.pdf(path=out / "print.pdf", format="A4")
    tab.close()
    print_note(f"{out}: {len(list(out.iterdir()))} files")


def _opened(browser: Any, path: Path, width: int, scheme: str) -> Any:
    tab = browser.new_page(viewport={"width": width, "height": _HEIGHT}, color_scheme=scheme)
    tab.set_default_timeout(_SECONDS * 1000)
    tab.goto(path.resolve().as_uri())
    if tab.locator("#explorer").count():
        tab.wait_for_selector("#explorer[data-ready]", state="attached")
    return tab


def violations(browser: Any, path: Path, axe: Path) -> list[Any]:
    """Return what axe-core finds wrong with a page in light and in dark, and print it."""
    found = []
    for scheme in SCHEMES:
        tab = _opened(browser, path, WIDTHS[0], scheme)
        tab.evaluate(axe.read_text(encoding="utf-8"))  # the page's own policy forbids other scripts, but not this
        for one in tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]:
            targets = ", ".join(" ".join(map(str, node["target"])) for node in one["nodes"][:3])
            print_note(f"{path} ({scheme}): {one['id']}, {one['help']}, at {len(one['nodes'])} places: {targets}")
            found.append(one)
        tab.close()
    print_note(f"{path}: {len(found)} violations")
    return found


def shoot_terminal(browser: Any, command: str, out: Path, every: float) -> None:
    """Run a command in a terminal and write what that shows, from time to time and at the end."""
    out.mkdir(parents=True, exist_ok=True)
    session, done = f"screens-{time.time_ns()}", out / "done"
    done.unlink(missing_ok=True)
    size = ["-x", str(_COLUMNS), "-y", str(_LINES)]
    shown = f"{command}; touch {done.resolve()}; sleep {_SECONDS}"
    subprocess.run(["tmux", "new-session", "-d", "-s", session, *size, shown], check=True)
    number, is_done = 0, False
    while not is_done:
        begin = time.monotonic()
        while not is_done and time.monotonic() - begin < every:
            time.sleep(0.5)
            is_done = done.exists()
        text = subprocess.run(["tmux", "capture-pane", "-p", "-t", session], check=True, capture_output=True, text=True)
        (out / f"{number:03}.txt").write_text(text.stdout, encoding="utf-8")
        tab = browser.new_page(viewport={"width": 760, "height": 60 + 18 * _LINES})
        tab.set_content(f"<pre style='font: 14px/18px monospace'>{html.escape(text.stdout)}</pre>")
        tab.screenshot(path=out / f"{number:03}.png")
        tab.close()
        number += 1
    subprocess.run(["tmux", "kill-session", "-t", session], check=False)
    done.unlink()


def shoot_tensorboard(browser: Any, folder: Path, out: Path) -> None:
    """Write the first screen of TensorBoard and of its tabs."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(_PORT)]
    board = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://localhost:{_PORT}")
        for width, scheme in product(WIDTHS, SCHEMES):
            tab = browser.new_page(viewport={"width": width, "height": _HEIGHT}, color_scheme=scheme)
            for name in ("timeseries", "histograms", "hparams"):
                tab.goto(f"http://localhost:{_PORT}/#{name}")
                tab.wait_for_timeout(5000)  # it says nowhere that it has drawn everything
                tab.screenshot(path=out / f"{width}_{scheme}_{name}.png")
            tab.close()
    finally:
        board.terminate()
        board.wait()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (urllib.error.URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
