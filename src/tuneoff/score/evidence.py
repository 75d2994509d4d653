"""Per-example scores of several arms → what they show: differences with intervals, tests, non-inferiority, power."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tuneoff.records import Interval, Record
from tuneoff.score.crossed import Crossed
from tuneoff.score.groups import Groups
from tuneoff.score.power import detectable_difference, examples_needed, provable_margin
from tuneoff.score.resampled import Resampled
from tuneoff.score.resampling import Array, holm
from tuneoff.score.spread import Spread, spread_of

RESAMPLES = 10_000
RANDOM_SEED = 12345  # as sacrebleu's
ALPHA = 0.05


class PairedDifference(Record):
    """`arm` minus `other` on the same examples, in the metric's figures.

    `p` is two-sided: by approximate randomization for one seed, by Student's t for several; `p_holm` is adjusted over
    all pairs of arms of this metric. `detectable` is the true difference that these examples and seeds would find
    after this adjustment in at least 80 % of cases.
    """

    metric: str
    arm: str
    other: str
    difference: Interval
    p: float
    p_holm: float
    detectable: float


@dataclass(frozen=True)
class Figures:
    """What a metric makes of every example, for several arms and seeds.

    Attributes:
        values: (A, S, N), whose means over N are the arms' figures.
        higher: Whether higher figures are better.
        statistics: (A, S, N, K) of a metric whose figures are those of sums, by `corpus`: (…, K) → (…).
        corpus: See `statistics`.
    """

    values: Array
    higher: bool = True
    statistics: Array | None = None
    corpus: Callable[[Array], Array] | None = None


class NonInferiority(Record):
    """Whether `arm` is worse than `baseline` by no more than a margin.

    The margin is a share of the baseline's figure, of which the arm is to keep `keep` (where less is better, to have
    at most 1 / `keep` of it), or where `keep` is None the same whatever the baseline has.

    Attributes:
        kept: The arm's share of the baseline's figure.
        p: The one-sided p-value of what is lost being the margin or more.
        p_holm: The same, adjusted over the arms of this metric.
        holds: Whether `p_holm` is at most 0.05.
        misses: Whether the 95 % interval of what is lost lies beyond the margin.
        margin: What may be lost, in the metric's figures.
        provable: The margin that these examples and seeds would show for two equal arms in 80 % of cases after this
            adjustment.
        examples_needed: How many examples would show `margin` with as many seeds. None where no number would, since the
            trainings differ too much.
        gained: The share of the baseline's gain over the original that the arm has, where there is an original and the
            gain is sure.
    """

    metric: str
    arm: str
    baseline: str
    keep: float | None
    kept: Interval
    p: float
    p_holm: float
    holds: bool
    misses: bool
    margin: float
    provable: float
    examples_needed: int | None
    gained: Interval | None


class Evidence(Record):
    """What the scores of a run show. `means` by arm and metric, `by_seed` a mean for each seed; pairs in order.

    `resamples` is 0 for several seeds, whose intervals and tests resample nothing. `groups` is how many groups the
    examples come in, which then take their place in all intervals and tests; None where each is for itself.
    """

    examples: int
    groups: int | None = None
    seeds: list[int]
    resamples: int
    means: dict[str, dict[str, Interval]]
    by_seed: dict[str, dict[str, list[float]]]
    differences: list[PairedDifference]
    non_inferiority: list[NonInferiority]


def weigh(
    scores: Mapping[str, Figures],
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    original: str | None,
    baseline: str | None,
    keep: float | None,
    margins: Mapping[str, float] | None = None,
    groups: Groups | None = None,
) -> Evidence:
    """The evidence of `scores`: by metric, those of `arms`, `seeds` and examples.

    Non-inferiority is judged against `baseline`, for every arm but it and `original`: by the share `keep`, or without
    by the metric's own of `margins`. One seed's intervals and tests
    are resampled over examples and speak of these checkpoints; those of several seeds know the spread between
    trainings, too (`crossed.py`), and speak of the methods. With `groups` of examples that depend on each other, groups
    take the place of examples in all of it.
    """
    means: dict[str, dict[str, Interval]] = {arm: {} for arm in arms}
    by_seed: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    differences: list[PairedDifference] = []
    judged: list[NonInferiority] = []
    for metric, figures in scores.items():
        values = figures.values
        inference = _inference(figures, groups)
        seen = values.mean((1, 2))
        for position, arm in enumerate(arms):
            means[arm][metric] = _interval(seen[position], inference.interval(inference.arms[position]))
            by_seed[arm][metric] = [float(mean) for mean in values[position].mean(1)]
        differences += _differences(metric, arms, values, inference, groups)
        if baseline is not None:
            margin = None if margins is None else margins[metric]
            judged += _judged(metric, arms, figures, inference, original, baseline, keep, margin, groups)
    return Evidence(
        examples=next(iter(scores.values())).values.shape[2],
        groups=len(groups) if groups is not None else None,
        seeds=list(seeds),
        resamples=RESAMPLES if len(seeds) == 1 else 0,
        means=means,
        by_seed=by_seed,
        differences=differences,
        non_inferiority=judged,
    )


def _inference(figures: Figures, groups: Groups | None) -> Crossed | Resampled:
    if figures.values.shape[1] > 1:
        return Crossed(figures.values if groups is None else groups.spread_values(figures.values))
    return Resampled(figures.values, RESAMPLES, RANDOM_SEED, figures.statistics, figures.corpus, groups)


def _spread(values: Array, groups: Groups | None) -> tuple[Spread, int]:
    """The spread of the mean of `values` (S, N), and the number of examples or groups that it is between."""
    own = values if groups is None else groups.spread_values(values)
    return spread_of(own), own.shape[1]


def _differences(
    metric: str, arms: Sequence[str], values: Array, inference: Crossed | Resampled, groups: Groups | None
) -> list[PairedDifference]:
    pairs = [(b, a) for a, b in combinations(range(len(arms)), 2)]  # the later arm minus the earlier
    if not pairs:
        return []
    p = inference.p_different(pairs)
    return [
        PairedDifference(
            metric=metric,
            arm=arms[a],
            other=arms[b],
            difference=_interval(
                (values[a] - values[b]).mean(), inference.interval(inference.arms[a] - inference.arms[b])
            ),
            p=float(own),
            p_holm=float(adjusted),
            detectable=detectable_difference(*_spread(values[a] - values[b], groups), len(pairs)),
        )
        for (a, b), own, adjusted in zip(pairs, p, holm(p), strict=True)
    ]


def _judged(
    metric: str,
    arms: Sequence[str],
    figures: Figures,
    inference: Crossed | Resampled,
    original: str | None,
    baseline: str,
    keep: float | None,
    margin: float | None,
    groups: Groups | None,
) -> list[NonInferiority]:
    values, full = figures.values, arms.index(baseline)
    first = arms.index(original) if original is not None else None
    judged = [n for n, arm in enumerate(arms) if arm not in (original, baseline)]
    seen, drawn = values.mean((1, 2)), inference.arms
    if not judged or not inference.has_score(full):
        return []
    sign = 1.0 if figures.higher else -1.0
    share = 1.0 if keep is None else keep if figures.higher else 1 / keep
    fixed = 0.0 if margin is None else margin
    room = [sign * (drawn[n] - share * drawn[full]) + fixed for n in judged]  # above 0 where no more is lost
    p = np.array([inference.p_above(own) for own in room])
    results = []
    for n, left, own, adjusted in zip(judged, room, p, holm(p), strict=True):
        spread, units = _spread(values[n] - share * values[full], groups)
        allowed = float(abs(1 - share) * seen[full]) + fixed
        needed = examples_needed(spread, allowed, len(judged))
        gained = None
        if first is not None and inference.interval(sign * (drawn[full] - drawn[first]))[0] > 0:
            gained = _interval(
                (seen[n] - seen[first]) / (seen[full] - seen[first]),
                inference.share(sign * (drawn[n] - drawn[first]), sign * (drawn[full] - drawn[first])),
            )
        results.append(
            NonInferiority(
                metric=metric,
                arm=arms[n],
                baseline=baseline,
                keep=keep,
                kept=_interval(seen[n] / seen[full], inference.score_share(n, full)),
                p=float(own),
                p_holm=float(adjusted),
                holds=bool(adjusted <= ALPHA),
                misses=inference.interval(left)[1] < 0,
                margin=allowed,
                provable=provable_margin(spread, units, len(judged)),
                examples_needed=None if needed is None else math.ceil(needed * values.shape[2] / units),
                gained=gained,
            )
        )
    return results


def _interval(value: float, ends: tuple[float, float]) -> Interval:
    return Interval(value=float(value), low=ends[0], high=ends[1])
