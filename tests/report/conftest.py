"""A browser for pages, and a run folder."""

import shutil

import pytest
from report.runs import write_run

from sae_lightning.cli import main


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser):
    """A page that fails the test on a console error, an exception, and any request but of files and data."""
    page = browser.new_page()
    complaints = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda of: None if of.url.startswith(("file://", "data:")) else complaints.append(of.url))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield page
    page.close()
    assert not complaints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder, with its report in it."""
    folder = write_run(tmp_path_factory.mktemp("logs") / "experiment" / "version_0")
    main(["report", str(folder)])
    return folder
