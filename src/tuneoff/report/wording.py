"""Figures of the evidence as the verdict and its tables write them."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.records import Interval
from tuneoff.score.metrics import Metric

SURE = 0.05  # the adjusted p-value up to which a difference is told as shown


def percent_text(share: Interval) -> str:
    """`98.1 % [97.0, 99.2]`."""
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def points_text(difference: Interval, metric: Metric) -> str:
    """`+1.2 points [+0.3, +2.1]`, in the metric's unit."""
    value, low, high = (
        metric.shown(x, fewer=1, sign=True) for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} {metric.unit} [{low}, {high}]"


def p_text(p: float) -> str:
    """`p = 0.037`, or `p < 0.001`."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def p_number(p: float) -> str:
    """`0.037`, or `<0.001`, in a table."""
    return f"{p:.2g}" if p >= 0.001 else "<0.001"


def turned(interval: Interval) -> Interval:
    """The interval of the opposite difference."""
    return Interval(value=-interval.value, low=-interval.high, high=-interval.low)


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
