"""A figure and how sure it is."""

from __future__ import annotations

from tuneoff.records.base import Record


class Interval(Record):
    """A figure with its 95 % interval: by the bootstrap (percentile) for one seed, by Student's t for several."""

    value: float
    low: float
    high: float
