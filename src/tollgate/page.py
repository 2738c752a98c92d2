"""A page of figures, tables and pictures: one HTML file, no other file or host needed. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tollgate.templates import embedded, environment

TEMPLATE = "page.html"


class Table(NamedTuple):
    """Cells by row, under headings.

    Attributes:
        headings: One a column; numbers are set flush right from `words` on.
        rows: The cells, as text.
        words: How many columns at the left hold words.
        marks: For each row the name of its colour: `attention`, `watch`, or nothing; none for none.
        note: A sentence below it.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    marks: Sequence[str] = ()
    note: str = ""


class Picture(NamedTuple):
    """A plot with its title and what it says; `svg` is the picture itself."""

    title: str
    caption: str
    svg: str

    @property
    def source(self) -> str:
        """As a data URI: apart from the page, so that the names inside two of them cannot clash."""
        return embedded(self.svg)


class Section(NamedTuple):
    """A part of the page."""

    title: str
    table: Table | None = None
    pictures: Sequence[Picture] = ()


class Page(NamedTuple):
    """What is on a page.

    Attributes:
        title: Of the page.
        about: What it is of, below the title.
        lead: The sentences that matter most.
        tiles: Pairs of a figure and what it is.
        sections: Below them, in order.
    """

    title: str
    about: str
    lead: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """Return the page as HTML; texts are escaped."""
    template = environment().get_template(TEMPLATE)
    return template.render(page=page)
