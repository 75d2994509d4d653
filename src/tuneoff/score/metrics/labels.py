"""Accuracy over labels, for classification: the references of a split are its labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tuneoff.score.metrics.base import Metric, References, Scorer

_BETWEEN = re.compile(r"[\s_-]+")
_AROUND = " .,:;!?\"'`*()[]"  # what a model may write around a label, unless it belongs to one


def label_text(text: str) -> str:
    """A label as it is compared: in any case, with spaces for hyphens and underscores, unless it has nothing else."""
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    return _BETWEEN.sub(" ", text).strip() or text


def _prepare(references: References) -> Scorer:
    labels = {label_text(text) for own in references for text in own} - {""}
    named = [
        (label, re.compile(rf"(?<!\w){re.escape(label)}(?!\w)")) for label in sorted(labels, key=len, reverse=True)
    ]

    def label_of(text: str) -> str | None:
        """The label that `text` is, or else the only one that it names; a longer label hides those within it."""
        text = label_text(text)
        for whole in (text, text.strip(_AROUND)):
            if whole in labels:
                return whole
        found = []
        for label, pattern in named:
            rest = pattern.sub(" ", text)
            if rest != text:
                found.append(label)
                text = rest
        return found[0] if len(found) == 1 else None

    def score(text: str, own: Sequence[str]) -> list[float]:
        label = label_of(text)
        return [float(label is not None and label == label_text(reference)) for reference in own]

    count = len(labels)
    many = f"accuracy: the references are {count:,} different labels, more than half as many as there are examples"
    return Scorer(
        score, signature={"accuracy": f"of-{count}-labels"}, warnings=[many] if 2 * count > len(references) else []
    )


METRICS = (Metric("accuracy", "accuracy", "acc.", "accuracy in %", "best", _prepare, hub="accuracy"),)
