"""A part of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneoff.report.chart import Chart, Table


@dataclass(frozen=True)
class Section:
    """A heading, what to see in it, charts and tables. Charts that are `wide` are placed below each other.

    `key` names the arms that the charts show by colour alone, each with the number of its colour. Where charts have a
    `choice`, the reader chooses among them by their axes, and one of `tables` has the figures of them all.
    """

    title: str
    words: str
    charts: Sequence[Chart]
    tables: Sequence[Table] = ()
    wide: bool = False
    key: Mapping[str, int] = field(default_factory=dict)

    @property
    def across(self) -> list[str]:
        """The horizontal axes that the reader chooses from."""
        return list(dict.fromkeys(chart.choice.across for chart in self.charts if chart.choice))

    @property
    def up(self) -> list[str]:
        """The vertical axes that the reader chooses from; only the charts of the first are shown at the beginning."""
        return list(dict.fromkeys(chart.choice.up for chart in self.charts if chart.choice))

    @property
    def anchor(self) -> str:
        """What a link to it ends with: `#what-was-learnt`."""
        return anchor(self.title)


def anchor(title: str) -> str:
    """A heading as the name of its place in the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
