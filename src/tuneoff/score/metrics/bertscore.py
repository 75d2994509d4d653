"""BERTScore (Zhang et al. 2020): how near the tokens of text and reference are in the space of a pretrained encoder.

By the package bert-score, an extra, which brings the encoder from the hub: the one that it recommends for English, or a
multilingual one.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from tuneoff.errors import MetricError, first_line
from tuneoff.score.metrics.base import Metric, References, Scorer
from tuneoff.score.metrics.words import is_ascii_language

ENCODERS = {"en": "roberta-large", "other": "bert-base-multilingual-cased"}


@cache
def _scorer(language: str) -> Any:
    """The package's own, with its encoder loaded. Raises MetricError."""
    try:
        return importlib.import_module("bert_score").BERTScorer(lang=language)
    except Exception as error:  # what the hub or the package raises
        raise MetricError(f"bertscore cannot load its encoder {ENCODERS[language]}: {first_line(error)}") from error


def _prepare(references: References) -> Scorer:
    if find_spec("bert_score") is None:
        raise MetricError("bertscore needs the package bert-score: pip install bert-score")
    language = "en" if is_ascii_language(text for own in references for text in own) else "other"

    def score(text: str, own: Sequence[str]) -> list[float]:
        _, _, figures = _scorer(language).score([text] * len(own), list(own))
        return [float(figure) for figure in figures]

    return Scorer(score, signature={"bertscore": ENCODERS[language]})


METRICS = (
    Metric("bertscore", "BERTScore", "BERT", "BERTScore's F × 100, not rescaled", "best", _prepare, "bertscore"),
)
