"""Length: how near the number of words of a text is to that of its reference."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.score.metrics.base import Metric, References, Scorer
from tuneoff.score.metrics.words import words


def agreement(text: str, reference: str) -> float:
    """The smaller number of words over the larger: 1 where they are the same."""
    written, wanted = len(words(text)), len(words(reference))
    return min(written, wanted) / max(written, wanted, 1) if (written or wanted) else 1.0


def _score(text: str, references: Sequence[str]) -> list[float]:
    return [agreement(text, reference) for reference in references]


def _prepare(_: References) -> Scorer:
    return Scorer(_score, signature={"length": "words-min-over-max"})


METRICS = (Metric("length", "length agreement", "len.", "smaller over larger number of words × 100", "best", _prepare),)
