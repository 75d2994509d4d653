"""Exact match and token F1, as SQuAD scores answers (Rajpurkar et al. 2016, section 6.1).

Both compare texts without case, punctuation and the English articles, and take the reference that fits best.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from tuneoff.score.metrics.base import Metric, References, Scorer
from tuneoff.score.metrics.words import words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_MARKS = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """`text` as SQuAD compares it; punctuation of other scripts is left out, too."""
    text = text.lower().translate(_ASCII_MARKS)
    if not text.isascii():
        text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(text: str, reference: str) -> float:
    """1 where both are the same once normalised, else 0.

    A reference of which nothing is left, such as `+` or an emoji, is compared as it is.
    """
    wanted = normalised(reference)
    return float(normalised(text) == wanted if wanted else text.strip() == reference.strip())


def token_f1(text: str, reference: str) -> float:
    """The harmonic mean of the shares of the tokens of each that the other has, too.

    Where one of them has no token, both are compared as they are. Scripts without spaces count letter by letter.
    """
    written, wanted = _tokens(text), _tokens(reference)
    if not written or not wanted:
        return float(text.strip() == reference.strip())
    shared = sum((Counter(written) & Counter(wanted)).values())
    return 2 * shared / (len(written) + len(wanted))


def _tokens(text: str) -> list[str]:
    text = normalised(text)
    return text.split() if text.isascii() else words(text)


def _each(compare: Callable[[str, str], float]) -> Callable[[str, Sequence[str]], list[float]]:
    return lambda text, references: [compare(text, reference) for reference in references]


def _prepare(name: str, compare: Callable[[str, str], float]) -> Callable[[References], Scorer]:
    return lambda _: Scorer(_each(compare), signature={name: "squad"})


_EXACT = _prepare("exact_match", exact_match)
METRICS = (
    Metric("exact_match", "exact match", "EM", "share of exact matches × 100", "best", _EXACT, hub="exact_match"),
    Metric("token_f1", "token F1", "F1", "token F1 × 100", "best", _prepare("token_f1", token_f1)),
)
