"""Look at the built site: it loads nothing from a network, its notebooks have outputs, its links are listed."""

import hashlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

LISTED = "external_links.txt"
_LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
_LINKS_ONLY = {"canonical", "search", "next", "prev", "index", "author", "help"}


class Page(HTMLParser):
    """What is looked at in a page.

    Attributes:
        loaded: addresses of other sites that a browser would fetch to show the page.
        linked: addresses of other sites that a reader can go to.
        n_inputs: cells of a notebook with code.
        n_outputs: those of them under which something stands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.n_inputs = self.n_outputs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a tag, if it is that of another site; count cells."""
        values = {name: value or "" for name, value in attrs}
        kinds = values.get("class", "").split()
        self.n_inputs += "cell_input" in kinds
        self.n_outputs += "cell_output" in kinds
        address = values.get(_LOADED.get(tag, "href"), "")
        if not address.startswith(("http:", "https:", "//")):
            return
        if tag in _LOADED and values.get("rel") not in _LINKS_ONLY:
            self.loaded.append(address)
        elif tag == "a":
            self.linked.append(address)


def check(app: Any, error: Exception | None) -> None:  # noqa: ANN401
    """List the links to other sites; refuse a page that needs a network to be shown, and a notebook without outputs.

    Raises:
        ValueError: names the page and what is wrong with it.
    """
    if error is not None or app.builder.format != "html":
        return
    folder, linked = Path(app.outdir), set()
    for path in sorted(folder.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        linked.update(page.linked)
        if page.loaded:
            raise ValueError(f"{path} loads {', '.join(page.loaded)}: expected a page that needs no network")
        if page.n_outputs < page.n_inputs / 2:
            raise ValueError(f"{path}: {page.n_outputs} of {page.n_inputs} cells have an output: was it executed?")
    (folder.parent / LISTED).write_text("".join(f"{address}\n" for address in sorted(linked)), encoding="utf-8")


def fingerprint(package: Path) -> str:
    """Return what changes with the code of a package: outputs of notebooks that another one left are not shown."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
