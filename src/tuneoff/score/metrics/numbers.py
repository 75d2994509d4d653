"""Numeric match, for problems whose answer is a number: the last number of a text, as GSM8K's solutions end.

After Cobbe et al. (2021), whose references have their answer after `####`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from tuneoff.score.metrics.base import Metric, References, Scorer

ANSWER = "####"
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?<=\d)")


def last_number(text: str) -> Decimal | None:
    """The number after the last `####`, or else the last number of `text`; None without any.

    Commas may group its thousands. A sign counts where no word or digit stands right before it.
    """
    text = unicodedata.normalize("NFKC", text.rpartition(ANSWER)[2])
    found = [match for match in _NUMBER.finditer(text) if any(c.isdigit() for c in match[0])]
    if not found:
        return None
    number, start = found[-1][0].replace(",", "").replace("−", "-"), found[-1].start()
    if number[0] in "+-" and start > 0 and (text[start - 1].isalnum() or text[start - 1] in ".)"):
        number = number[1:]  # a difference, or a hyphen
    return Decimal(number)


def _score(text: str, references: Sequence[str]) -> list[float]:
    written = last_number(text)
    return [float(written is not None and written == last_number(reference)) for reference in references]


def _prepare(references: References) -> Scorer:
    without = sum(last_number(text) is None for own in references for text in own)
    return Scorer(
        _score,
        signature={"number": "last"},
        warnings=[f"{without:,} references without a number: numeric match is 0 there, whatever is written"]
        if without
        else [],
    )


METRICS = (Metric("number", "numeric match", "num.", "share of right numbers × 100", "best", _prepare),)
