"""Accuracy over labels, for classification: the references of a split are its labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuneoff.score.metrics.base import Metric, References, Scorer
from tuneoff.score.metrics.squad import normalised


def _prepare(references: References) -> Scorer:
    labels = {normalised(text): text for own in references for text in own}
    named = {label: re.compile(rf"(?<!\w){re.escape(label)}(?!\w)") for label in labels if label}

    def label_of(text: str) -> str | None:
        """The label that `text` is, or else the only one that it names; a longer label hides those within it."""
        text = normalised(text)
        if text in labels:
            return text
        for label in sorted(named, key=len, reverse=True):
            rest = named[label].sub(" ", text)
            if rest != text:
                return None if any(other.search(rest) for other in named.values()) else label
        return None

    def score(text: str, own: Sequence[str]) -> list[float]:
        label = label_of(text)
        return [float(label is not None and label == normalised(reference)) for reference in own]

    count = len(labels)
    many = f"accuracy: the references are {count:,} different labels, more than half as many as there are examples"
    return Scorer(
        score, signature={"accuracy": f"of-{count}-labels"}, warnings=[many] if 2 * count > len(references) else []
    )


METRICS = (Metric("accuracy", "accuracy", "acc.", "accuracy in %", "best", _prepare, hub="accuracy"),)
