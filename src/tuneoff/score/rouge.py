"""ROUGE by the reference implementation's port, for each example and each reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(METRICS), use_stemmer=True)


def rouge(prediction: str, references: Sequence[str]) -> dict[str, list[float]]:
    """F-measures in 0…1 of `prediction` against each of `references`, by metric.

    ROUGE (Lin 2004) as rouge_score computes it, with Porter's stemmer. It sees ASCII letters and
    digits alone. rougeLsum splits sentences at newlines; without any it equals rougeL.
    """
    scores = [_scorer().score(reference, prediction) for reference in references]
    return {metric: [float(score[metric].fmeasure) for score in scores] for metric in METRICS}


def rouge_version() -> str:
    """The version of rouge_score, for the signature."""
    return version("rouge_score")
