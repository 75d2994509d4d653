"""Numeric match, for problems whose answer is a number: the last number of a text, or the one after `####`.

After GSM8K (Cobbe et al. 2021), whose references have their answer so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from tuneoff.score.metrics.base import Metric, References, Scorer

ANSWER = "####"
_NUMBER = re.compile(r"(?<!\w)[-+−]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}(?!\w))?")


def answered_number(text: str) -> Decimal | None:
    """The first number after a text's first `####`, or the last number of a text without; None where there is none.

    Commas may group its thousands. A sign counts where no word or digit stands right before it.
    """
    text = unicodedata.normalize("NFKC", text)
    _, marked, answer = text.partition(ANSWER)
    place = answer if marked else text
    found = list(_NUMBER.finditer(place))
    if not found:
        return None
    match = found[0] if marked else found[-1]
    number, start = match[0].replace(",", "").replace("−", "-"), match.start()
    if number[0] in "+-" and start > 0 and place[start - 1] in ".)":
        number = number[1:]  # a difference, or a hyphen
    return Decimal(number)


def _score(text: str, references: Sequence[str]) -> list[float]:
    written = answered_number(text)
    return [float(written is not None and written == answered_number(reference)) for reference in references]


def _prepare(references: References) -> Scorer:
    without = sum(answered_number(text) is None for own in references for text in own)
    return Scorer(
        _score,
        signature={"number": "marked-or-last"},
        warnings=[f"{without:,} references without a number: numeric match is 0 there, whatever is written"]
        if without
        else [],
    )


METRICS = (Metric("number", "numeric match", "num.", "share of right numbers × 100", "best", _prepare),)
