"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from tuneoff.records import Score

References = Sequence[Sequence[str]]  # of every example of a split, one or more


@dataclass(frozen=True)
class Scorer:
    """A metric that is ready to score texts for the references of one split.

    Attributes:
        score: A text and its example's references → a figure in 0…1 for each reference; more is better.
        signature: What the figures depend on besides texts and references, for the signature of a trial's scores.
        warnings: What a person should know before the figures are believed, a sentence each.
    """

    score: Callable[[str, Sequence[str]], list[float]]
    signature: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Metric:
    """A measure of how good a text is beside its references.

    Attributes:
        name: As a recipe names it.
        label: As it is read in sentences and charts.
        short: As it heads a column.
        explained: What the figures are; shown figures are 100 times those of `Scorer.score`.
        several: How an example's figure comes from those of its references: their mean, or the best.
        prepare: References of a split → the metric's scorer for it. Raises MetricError.
        hub: The metric's name on the Hugging Face hub, for model cards; None where it has none.
    """

    name: str
    label: str
    short: str
    explained: str
    several: Literal["mean", "best"]
    prepare: Callable[[References], Scorer]
    hub: str | None = None

    def of_example(self, figures: Sequence[float]) -> float:
        """An example's figure, from one for each of its references."""
        return fmean(figures) if self.several == "mean" else max(figures)

    def of_trial(self, score: Score) -> float:
        """The mean of `of_example` over a trial's examples."""
        return score.mean if self.several == "mean" else score.best
