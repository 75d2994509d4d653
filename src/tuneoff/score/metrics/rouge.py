"""ROUGE (Lin 2004): words, pairs of words, or the longest common subsequence that a text shares with a reference.

As rouge_score computes it, the port of the reference implementation, with Porter's stemmer. That sees ASCII letters and
digits alone: for references in a language that needs others, words of Unicode without a stemmer take the place of its
own (`words`), by the same formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from importlib.metadata import version
from typing import Any

from tuneoff.score.metrics.base import Metric, References, Scorer
from tuneoff.score.metrics.words import is_ascii_language, words

REMEMBERED = 20_000  # texts whose words are kept: a reference meets every arm, and each of the four metrics


@cache
def _scorer(name: str, ascii_only: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name], tokenizer=_tokenizer(ascii_only))


@cache
def _tokenizer(ascii_only: bool) -> Any:
    from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

    split = DefaultTokenizer(use_stemmer=True).tokenize if ascii_only else words

    class Remembering(Tokenizer):
        @lru_cache(REMEMBERED)  # noqa: B019  as long as the process
        def tokenize(self, text: str) -> list[str]:
            return split(text)

    return Remembering()


def _prepare(name: str, references: References) -> Scorer:
    texts = [text for own in references for text in own]
    ascii_only = is_ascii_language(texts)
    scorer = _scorer(name, ascii_only)
    blind = sum(not _tokenizer(ascii_only).tokenize(text) for text in texts)
    return Scorer(
        partial(_score, scorer, name),
        signature={
            "metric": "rouge_score",
            "version": version("rouge_score"),
            "stem": "porter" if ascii_only else "none",
            "tok": "ascii" if ascii_only else "unicode",
        },
        warnings=[f"{blind:,} references without a word that ROUGE sees: it is 0 there, whatever is written"]
        if blind
        else [],
    )


def _score(scorer: Any, name: str, text: str, references: Sequence[str]) -> list[float]:
    return [float(scorer.score(reference, text)[name].fmeasure) for reference in references]


# rougeLsum splits sentences at line breaks; without any it equals rougeL.
METRICS = tuple(
    Metric(name, label, short, "ROUGE F × 100", "mean", partial(_prepare, name), hub="rouge")
    for name, label, short in (
        ("rouge1", "ROUGE-1", "R-1"),
        ("rouge2", "ROUGE-2", "R-2"),
        ("rougeL", "ROUGE-L", "R-L"),
        ("rougeLsum", "ROUGE-Lsum", "R-Lsum"),
    )
)
