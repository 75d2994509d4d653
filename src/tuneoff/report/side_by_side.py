"""Examples of the report, side by side: which are shown, and which words a text shares with its references."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from markupsafe import Markup, escape

from tuneoff.records import Prediction
from tuneoff.score.metrics import Metric
from tuneoff.visible import visible

MOST = 100
LONGEST = 4000  # characters of a text that are shown
WORD = re.compile(r"\w+")

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """What one arm wrote: its shown score by the metric that is judged, and the text with the shared words marked."""

    arm: str
    score: float
    text: Markup
    truncated: bool


@dataclass(frozen=True)
class Shown:
    """One example as it is shown; `disagreement` is the distance of its best from its worst text, in points."""

    id: str
    input: str
    references: list[str]
    written: list[Written]
    disagreement: float


def side_by_side(predictions: Mapping[str, Sequence[Prediction]], metric: Metric) -> list[Shown]:
    """At most `MOST` examples, most disagreed on first: half are those of all, half are spread over the rest."""
    texts = zip(*predictions.values(), strict=True)
    rows = [_shown(dict(zip(predictions, own, strict=True)), metric) for own in texts]
    rows.sort(key=lambda row: -row.disagreement)
    if len(rows) > MOST:
        first, rest = rows[: MOST // 2], rows[MOST // 2 :]
        count = MOST - len(first)
        rows = first + spread(rest, count)
    return rows


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of `items`, spread evenly over them: the same for every run on the same data."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _shown(own: dict[str, Prediction], metric: Metric) -> Shown:
    first = next(iter(own.values()))
    scores = {arm: metric.scale * metric.of_example(p.scores[metric.name]) for arm, p in own.items()}
    return Shown(
        id=first.id,
        input=clipped(first.input),
        references=[clipped(reference) for reference in first.references],
        written=[
            Written(arm, scores[arm], marked(clipped(p.prediction), first.references), p.truncated)
            for arm, p in own.items()
        ],
        disagreement=max(scores.values()) - min(scores.values()),
    )


def marked(text: str, references: Sequence[str]) -> Markup:
    """`text`, inert, with `<mark>` around runs of words that some reference has, too (in any case of letters)."""
    known = {word.lower() for reference in references for word in WORD.findall(reference)}
    parts: list[Markup] = []
    at = 0
    for shared, words in groupby(WORD.finditer(text), key=lambda word: word[0].lower() in known):
        spans = [word.span() for word in words]
        if shared:
            start, end = spans[0][0], spans[-1][1]
            parts += [escape(text[at:start]), Markup("<mark>{}</mark>").format(text[start:end])]
            at = end
    return Markup("").join([*parts, escape(text[at:])])


def clipped(text: str) -> str:
    """At most `LONGEST` characters, hidden ones made visible, and how many more there are."""
    text = visible(text)
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}… ({len(text) - LONGEST:,} more characters in predictions.jsonl)"
