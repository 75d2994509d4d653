"""A part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class SectionTable:
    """A caption, and cells under heads."""

    caption: str
    heads: list[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, what to see in it, charts and tables. Charts that are `wide` stand below each other."""

    title: str
    words: str
    charts: list[Markup]
    tables: Sequence[SectionTable] = ()
    wide: bool = False
