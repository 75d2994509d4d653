"""chrF (Popović 2015) of a corpus, as sacrebleu computes it: F of runs of characters, in any language."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from tuneoff.score.metrics.base import Array, Metric, References, Scorer

BETA = 2.0  # how much more recall counts than precision


def figure(statistics: Array) -> Array:
    """ChrF in 0…1 of summed statistics (…, 18): runs in the texts, in the references and in both, of 1 to 6 characters.

    Precision and recall are means over the lengths of which both have runs.
    """
    runs = statistics.reshape(*statistics.shape[:-1], -1, 3)
    written, wanted, both = runs[..., 0], runs[..., 1], runs[..., 2]
    known = (written > 0) & (wanted > 0)
    orders = np.maximum(known.sum(-1), 1)
    precision = (np.where(known, both / np.maximum(written, 1), 0.0)).sum(-1) / orders
    recall = (np.where(known, both / np.maximum(wanted, 1), 0.0)).sum(-1) / orders
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0), 0.0)


def _prepare(_: References) -> Scorer:
    from sacrebleu.metrics.chrf import CHRF

    metric: Any = CHRF(beta=int(BETA))
    return Scorer(partial(_statistics, metric), signature={"chrf": f"sacrebleu-{version('sacrebleu')}+c6w0b2"})


def _statistics(metric: Any, text: str, references: list[str]) -> list[float]:
    [found] = metric._extract_corpus_statistics([text], [[reference] for reference in references])
    return [float(value) for value in found]


METRICS = (Metric("chrf", "chrF", "chrF", "chrF × 100 of all texts together", "best", _prepare, "chrf", corpus=figure),)
