"""Per-example scores → the figures of a trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuneoff.records import Prediction, RougeScore, Scores
from tuneoff.score.rouge import METRICS


def summarise(predictions: Sequence[Prediction]) -> Scores:
    """Means over dialogues. With several references: their mean (the main rule), the best, and the first alone."""
    by_metric = {metric: [getattr(p, metric) for p in predictions] for metric in METRICS}
    return Scores(
        **{metric: _rules(values) for metric, values in by_metric.items()},
        length_ratio=length_ratio(predictions),
        empty_outputs=sum(not p.prediction for p in predictions),
        truncated_outputs=sum(p.truncated for p in predictions),
        examples=len(predictions),
    )


def length_ratio(predictions: Sequence[Prediction]) -> float:
    """Words written, over the words of the references (their mean length, where there are several)."""
    written = sum(len(p.prediction.split()) for p in predictions)
    wanted = sum(float(np.mean([len(r.split()) for r in p.references])) for p in predictions)
    return written / wanted


def _rules(values: list[list[float]]) -> RougeScore:
    return RougeScore(
        mean=float(np.mean([np.mean(v) for v in values])),
        best=float(np.mean([max(v) for v in values])),
        first=float(np.mean([v[0] for v in values])),
    )
