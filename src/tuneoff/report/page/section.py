"""A part of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneoff.report.chart import Chart, Table


@dataclass(frozen=True)
class Section:
    """A heading, what to see in it, charts and tables. Charts that are `wide` are placed below each other.

    `key` names the arms that the charts show by colour alone, each with the number of its colour.
    """

    title: str
    words: str
    charts: Sequence[Chart]
    tables: Sequence[Table] = ()
    wide: bool = False
    key: Mapping[str, int] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """What a link to it ends with: `#what-was-learnt`."""
        return anchor(self.title)


def anchor(title: str) -> str:
    """A heading as the name of its place in the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
