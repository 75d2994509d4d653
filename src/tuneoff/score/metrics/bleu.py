"""BLEU (Papineni et al. 2002) of a corpus, as sacrebleu computes it (Post 2018)."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from tuneoff.score.metrics.base import Array, Metric, References, Scorer
from tuneoff.score.metrics.words import is_ascii_language, is_unspaced, words

ORDER = 4  # of n-grams


def figure(statistics: Array) -> Array:
    """BLEU in 0…1 of summed statistics (…, 10): lengths of texts and references, matches and n-grams of each order.

    An order without a match has half, a quarter and so on of one (sacrebleu's smoothing `exp`).
    """
    written, wanted = statistics[..., 0], statistics[..., 1]
    matches, totals = statistics[..., 2 : 2 + ORDER], statistics[..., 2 + ORDER :]
    halvings = np.cumsum((matches == 0) & (totals > 0), axis=-1)
    found = np.where(matches > 0, matches, 0.5**halvings)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(found / totals).sum(-1) / ORDER
        penalty = np.where(written < wanted, 1 - wanted / written, 0.0)
        value = np.exp(logs + penalty)
    some = (written > 0) & matches.any(-1) & (totals > 0).all(-1)
    return np.where(some, value, 0.0)


def _prepare(references: References) -> Scorer:
    from sacrebleu.metrics.bleu import BLEU

    texts = [text for own in references for text in own]
    tokenizer = "13a" if is_ascii_language(texts) or not is_unspaced(texts) else "char"
    metric: Any = BLEU(tokenize=tokenizer)
    short = sum(len(words(text)) < ORDER for text in texts)
    few = f"BLEU: {short:,} of {len(texts):,} references have fewer than {ORDER} words, and count for little in it"
    return Scorer(
        partial(_statistics, metric),
        signature={"bleu": f"sacrebleu-{version('sacrebleu')}+{tokenizer}+exp"},
        warnings=[few] if 2 * short > len(texts) else [],
    )


def _statistics(metric: Any, text: str, references: list[str]) -> list[float]:
    [found] = metric._extract_corpus_statistics([text], [[reference] for reference in references])
    return [float(value) for value in found]


METRICS = (Metric("bleu", "BLEU", "BLEU", "BLEU × 100 of all texts together", "best", _prepare, "bleu", corpus=figure),)
