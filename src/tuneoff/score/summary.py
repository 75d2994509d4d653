"""Figures of each example → the figures of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from tuneoff.errors import MetricError
from tuneoff.records import Prediction, Score, Scores
from tuneoff.score.metrics import Loss, Metric, Scorer
from tuneoff.score.metrics.words import words


def scored(prediction: Prediction, scorers: Mapping[str, Scorer], losses: Sequence[Loss] | None = None) -> Prediction:
    """`prediction` with the figures of these metrics besides those that it has. Raises MetricError.

    `losses` are the model's on each of its references, for scorers that judge them.
    """
    figures = {}
    for name, scorer in scorers.items():
        if scorer.score is not None:
            figures[name] = scorer.score(prediction.prediction, prediction.references)
        elif scorer.judge is not None and losses is not None:
            figures[name] = scorer.judge(losses)
        else:
            raise MetricError(
                f"{name} is the model's and not its texts': name it in evaluation.metrics, so that a run computes it"
            )
    return prediction.model_copy(update={"scores": {**prediction.scores, **figures}})


def summarise(predictions: Sequence[Prediction], metrics: Sequence[Metric]) -> Scores:
    """Means over examples, by metric."""
    return Scores(
        metrics={metric.name: _score(metric, [p.scores[metric.name] for p in predictions]) for metric in metrics},
        length_ratio=length_ratio(predictions),
        empty_outputs=sum(not p.prediction for p in predictions),
        truncated_outputs=sum(p.truncated for p in predictions),
        examples=len(predictions),
    )


def length_ratio(predictions: Sequence[Prediction]) -> float:
    """Words written, over the words of the references (their mean length, where there are several)."""
    written = sum(_count(p.prediction) for p in predictions)
    wanted = sum(fmean(map(_count, p.references)) for p in predictions)
    return written / max(1.0, wanted)


def _count(text: str) -> int:
    return len(text.split() if text.isascii() else words(text))


def _score(metric: Metric, values: list[list[float]]) -> Score:
    if metric.corpus is not None:
        whole = metric.of_examples(values)
        return Score(mean=whole, best=whole, first=whole)
    best = max if metric.better == "higher" else min
    return Score(mean=fmean(map(fmean, values)), best=fmean(map(best, values)), first=fmean(v[0] for v in values))
