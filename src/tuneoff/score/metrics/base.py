"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.records import Score

Array = NDArray[np.float64]
References = Sequence[Sequence[str]]  # of every example of a split, one or more
Loss = tuple[float, int]  # what a model makes of a reference: nats, summed over so many tokens


@dataclass(frozen=True)
class Scorer:
    """A metric that is ready to score texts for the references of one split.

    Attributes:
        score: A text and its example's references → a figure for each reference; of a corpus metric, its statistics.
            None where texts say nothing.
        judge: The model's loss on each of an example's references → a figure for each. None where texts are scored.
        signature: What the figures depend on besides texts and references, for the signature of a trial's scores.
        warnings: What a person should know before the figures are believed, a sentence each.
    """

    score: Callable[[str, Sequence[str]], list[float]] | None = None
    judge: Callable[[Sequence[Loss]], list[float]] | None = None
    signature: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Metric:
    """A measure of how good a text is beside its references.

    Attributes:
        name: As a recipe names it.
        label: As it is read in sentences and charts.
        short: As it heads a column.
        explained: What the shown figures are.
        several: How an example's figure comes from those of its references: their mean, or the best.
        prepare: References of a split → the metric's scorer for it. Raises MetricError.
        hub: The metric's name on the Hugging Face hub, for model cards; None where it has none.
        better: Which way is better.
        scale: Shown figures are so many times the metric's own, which lie in 0…1 where they are percent.
        unit: Of shown differences.
        digits: Of shown figures, after the point.
        corpus: Of a metric that is no mean over examples: statistics (…, K), summed over examples → figures (…).
        by_text: Whether texts are scored; otherwise the model's loss on the references is judged.
    """

    name: str
    label: str
    short: str
    explained: str
    several: Literal["mean", "best"]
    prepare: Callable[[References], Scorer]
    hub: str | None = None
    better: Literal["higher", "lower"] = "higher"
    scale: float = 100.0
    unit: str = "points"
    digits: int = 2
    corpus: Callable[[Array], Array] | None = None
    by_text: bool = True

    def of_example(self, figures: Sequence[float]) -> float:
        """An example's figure, from what a scorer gives for it."""
        if self.corpus is not None:
            return float(self.corpus(np.array(figures)))
        if self.several == "mean":
            return fmean(figures)
        return max(figures) if self.better == "higher" else min(figures)

    def of_examples(self, figures: Sequence[Sequence[float]]) -> float:
        """The figure of several examples together."""
        if self.corpus is not None:
            return float(self.corpus(np.array(figures).sum(0)))
        return fmean(map(self.of_example, figures))

    def values(self, figures: Sequence[Sequence[float]]) -> Array:
        """(N): a value for each example, whose mean is `of_examples`.

        Of a corpus metric they are jackknife pseudo-values (Efron and Tibshirani 1993, chapter 11), moved to that mean:
        what an example adds to the figure of all.
        """
        if self.corpus is None:
            return np.array([self.of_example(own) for own in figures])
        statistics, count = np.array(figures, dtype=np.float64), len(figures)
        whole = float(self.corpus(statistics.sum(0)))
        pseudo = count * whole - (count - 1) * self.corpus(statistics.sum(0) - statistics)
        return pseudo - pseudo.mean() + whole

    def of_trial(self, score: Score) -> float:
        """`of_examples` of a trial."""
        return score.mean if self.several == "mean" or self.corpus is not None else score.best

    def shown(self, figure: float, *, fewer: int = 0, sign: bool = False) -> str:
        """A figure or a difference as people read it; percent with `fewer` digits in sentences."""
        digits = self.digits - fewer if self.scale == 100 else self.digits
        rounded = round(self.scale * figure, digits) + 0.0  # no -0.00
        return f"{rounded:{'+' if sign else ''}.{digits}f}"
