"""Counts, seconds and bytes as people read them."""

from __future__ import annotations

from tuneoff.records import Range

NONE = "–"


def count_text(count: float) -> str:
    """3538944 → '3.54 M'."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def duration_text(seconds: float | None) -> str:
    """754.2 → '12m 34s'."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def range_text(seconds: Range | None) -> str:
    """`2m10s–4m00s`."""
    if seconds is None:
        return NONE
    return "–".join(duration_text(value).replace(" ", "") for value in (seconds.low, seconds.high))


def bytes_text(size: float | None) -> str:
    """Binary units: 3221225472 → '3.00 GiB'."""
    if size is None:
        return NONE
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
