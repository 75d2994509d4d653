"""A chart, and the same figures as a table: for those who cannot see it, and for those who want to copy them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

TOLD = 12  # rows that a drawing's alternative text has, at most


@dataclass(frozen=True)
class Table:
    """A caption, and cells under heads; the first cell of a row is its header.

    `open` where it is seen at once; `prose` where cells are words that may be broken into lines. `keys` are the numbers
    that the cells after the first are sorted by, where a reader may sort the table.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    open: bool = False
    prose: bool = False
    keys: Sequence[Sequence[float | None]] = ()

    @property
    def told(self) -> str:
        """The first rows as one sentence: `full: score 48.0, time 5m 55s; lora: …`."""
        rows = [f"{row[0]}: {', '.join(map(' '.join, zip(self.heads[1:], row[1:], strict=True)))}" for row in self.rows]
        more = len(rows) - TOLD
        return "; ".join(rows[:TOLD]) + (f"; and {more} more rows in the table" if more > 0 else "")


@dataclass(frozen=True)
class Choice:
    """What a chart has on its axes, where the reader chooses among several charts by their axes."""

    across: str
    up: str


@dataclass(frozen=True)
class Chart:
    """An SVG whose alternative text has its figures, and the table that it is drawn from."""

    drawing: Markup
    table: Table
    choice: Choice | None = None
