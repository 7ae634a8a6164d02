"""What a section of the page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_lightning.figures.chart import Chart, Table


@dataclass(frozen=True)
class Image:
    """An image that is wider than a phone.

    Args:
        src: a data URI.
        alt_text: description for screen readers.
    """

    src: str
    alt_text: str


@dataclass(frozen=True)
class Group:
    """Charts, tables and images that belong together.

    Args:
        title: empty for none.
        lead: a sentence before them.
        charts: drawn side by side.
        tables: under the charts.
        folded: tables that are shown when asked for.
        images: one under the other.
        is_folded: whether all of it is shown when asked for, under its title.
    """

    title: str = ""
    lead: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    images: Sequence[Image] = ()
    is_folded: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        name: for links.
        title: its heading.
        lead: what it shows and how to read it.
        groups: one or more.
    """

    name: str
    title: str
    lead: str
    groups: Sequence[Group]
