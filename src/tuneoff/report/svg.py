"""Drawings as inline SVG: no script, colours from the page's style sheet, sharp in print.

Coordinates are in pixels of the drawing's own size; classes (`c0` … of the arms, `axis`, `grid`) are defined in
page/charts.css, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Format = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, laid out from pixel `start` to `end`; ticks are round in `unit`s."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    unit: float = 1.0

    def at(self, value: float) -> float:
        low, high, value = (map(math.log10, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the axis: steps of 1, 2 or 5.

        Of a logarithmic axis powers of ten; where there is but one of them, 2 and 5 times such, too.
        """
        if self.log:
            exponents = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            every = [m * 10.0**e for e in exponents for m in (1, 2, 5) if self.low <= m * 10.0**e <= self.high]
            powers = [value for value in every if math.log10(value).is_integer()]
            return powers if len(powers) > 1 else every
        raw = (self.high - self.low) / about / self.unit
        power = 10.0 ** math.floor(math.log10(raw))
        step = self.unit * next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def around(
    values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False, unit: float = 1.0
) -> Axis:
    """An axis that holds `values` with some room, from 0 where `zero`."""
    low, high = min(values), max(values)
    if log:
        return Axis(low / 1.6, high * 1.6, start, end, log=True)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return Axis(0.0 if zero else low - room, high + room, start, end, unit=unit)


class Drawing:
    """An SVG that grows by marks. `figures` are what it shows, in words, for those who cannot see it."""

    def __init__(self, width: float, height: float, title: str, figures: str = "") -> None:
        told = f"{title}. {figures}" if figures else title
        self._parts = [
            Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>').format(
                width, height, told, title
            )
        ]

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self._add('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>', css, x1, y1, x2, y2)

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        route = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._add('<path class="line {}" d="M{}"/>', css, route)

    def dot(self, x: float, y: float, css: str, hint: str) -> None:
        self._add('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>', css, x, y, hint)

    def bar(self, x: float, y: float, width: float, height: float, css: str, hint: str) -> None:
        mark = '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        self._add(mark, css, x, y, max(width, 0.0), max(height, 0.0), hint)

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        self._add('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>', css, x, y, anchor, words)

    def across(self, axis: Axis, y: float, label: str, form: Format, ticks: Sequence[float] | None = None) -> None:
        """The axis along the bottom at `y`, with its label; at round values, or at `ticks`."""
        self.line(axis.start, y, axis.end, y, "axis")
        for tick in axis.ticks() if ticks is None else ticks:
            self.line(axis.at(tick), y, axis.at(tick), y + 4, "axis")
            self.text(axis.at(tick), y + 17, form(tick), "tick", "middle")
        self.text((axis.start + axis.end) / 2, y + 36, label, "label", "middle")

    def upright(self, axis: Axis, x: float, right: float, label: str, form: Format) -> None:
        """The axis along the left at `x`, with grid lines to `right`."""
        for tick in axis.ticks():
            self.line(x, axis.at(tick), right, axis.at(tick), "grid")
            self.text(x - 6, axis.at(tick) + 4, form(tick), "tick", "end")
        self.text(4, axis.end - 10, label, "label")

    def markup(self) -> Markup:
        return Markup("").join([*self._parts, Markup("</svg>")])

    def _add(self, template: str, *values: str | float) -> None:
        self._parts.append(Markup(template).format(*values))
