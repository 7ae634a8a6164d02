"""Look at the built site: it loads nothing from a network, and its links to other sites are listed."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

LISTED = "external_links.txt"
_LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
_LINKS_ONLY = {"canonical", "search", "next", "prev", "index", "author", "help"}


class Addresses(HTMLParser):
    """The addresses of other sites in a page.

    Attributes:
        loaded: what a browser would fetch to show the page.
        linked: what a reader can go to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a tag, if it is that of another site."""
        values = {name: value or "" for name, value in attrs}
        address = values.get(_LOADED.get(tag, "href"), "")
        if not address.startswith(("http:", "https:", "//")):
            return
        if tag in _LOADED and values.get("rel") not in _LINKS_ONLY:
            self.loaded.append(address)
        elif tag == "a":
            self.linked.append(address)


def check_site(app: Any, error: Exception | None) -> None:  # noqa: ANN401
    """List the links to other sites, and refuse a page that needs a network to be shown.

    Raises:
        ValueError: names the page and what it loads.
    """
    if error is not None or app.builder.format != "html":
        return
    folder, linked = Path(app.outdir), set()
    for page in sorted(folder.rglob("*.html")):
        addresses = Addresses()
        addresses.feed(page.read_text(encoding="utf-8"))
        linked.update(addresses.linked)
        if addresses.loaded:
            raise ValueError(f"{page} loads {', '.join(addresses.loaded)}: expected a page that needs no network")
    (folder.parent / LISTED).write_text("".join(f"{address}\n" for address in sorted(linked)), encoding="utf-8")
