"""What scores mean on these data: those of texts that no model wrote, to be set beside the arms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from tuneoff.records import Floor
from tuneoff.score.metrics import Metric, Scorer
from tuneoff.score.metrics.words import words

MOST = 500  # examples that are scored, spread evenly over all
OFTEN = 0.01  # of the references, from which on the most frequent one is an answer that could always be given
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")

Asked = tuple[str, Sequence[str]]  # an input, and its references


def floors(asked: Sequence[Asked], metrics: Sequence[Metric]) -> list[Floor]:
    """Scores of the first sentences of each input, of the most frequent reference, and of one reference by the others.

    Each where there is such a thing. Raises MetricError.
    """
    step = max(1, -(-len(asked) // MOST))
    chosen = asked[::step]
    every_reference = [references for _, references in asked]
    scorers = {metric: metric.prepare(every_reference) for metric in metrics if metric.by_text}
    if not scorers:
        return []
    length = fmean(len(words(reference)) for _, references in chosen for reference in references)
    found = [_scored("first sentences", chosen, lambda text: lead(text, length), scorers)]
    every = [reference for _, references in asked for reference in references]
    constant, times = Counter(every).most_common(1)[0]
    if times > 1 and times >= OFTEN * len(every):
        found.append(_scored("always the same", chosen, lambda _: constant, scorers))
    several = [(text, references) for text, references in chosen if len(references) > 1]
    if several:
        found.append(_agreement(several, scorers))
    return found


def lead(text: str, length: float) -> str:
    """The first sentences or lines of `text`, until they have as many words as `length`."""
    kept: list[str] = []
    count = 0
    for sentence in (part.strip() for part in _SENTENCE.split(text)):
        if count >= length:
            break
        kept += [sentence] if sentence else []
        count += len(words(sentence))
    return " ".join(kept)


def _scored(name: str, asked: Sequence[Asked], answer: Callable[[str], str], scorers: dict[Metric, Scorer]) -> Floor:
    scores = {
        metric.name: metric.of_examples([scorer.score(answer(text), own) for text, own in asked])
        for metric, scorer in scorers.items()
        if scorer.score is not None
    }
    return Floor(name=name, examples=len(asked), scores=scores)


def _agreement(asked: Sequence[Asked], scorers: dict[Metric, Scorer]) -> Floor:
    """Each reference, taken as the answer to the others."""
    pairs = [(own[n], [*own[:n], *own[n + 1 :]]) for _, own in asked for n in range(len(own))]
    scores = {
        metric.name: metric.of_examples([scorer.score(one, others) for one, others in pairs])
        for metric, scorer in scorers.items()
        if scorer.score is not None
    }
    return Floor(name="one reference", examples=len(asked), scores=scores)
