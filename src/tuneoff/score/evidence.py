"""Per-example scores of several arms → what they show: differences with intervals, tests, non-inferiority, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tuneoff.records import Record
from tuneoff.score.crossed import Crossed
from tuneoff.score.power import detectable_difference, examples_needed, provable_margin
from tuneoff.score.resampled import Resampled
from tuneoff.score.resampling import Array, holm
from tuneoff.score.spread import spread_of

RESAMPLES = 10_000
RANDOM_SEED = 12345  # as sacrebleu's
ALPHA = 0.05


class Interval(Record):
    """A figure with its 95 % interval: by the bootstrap (percentile) for one seed, by Student's t for several."""

    value: float
    low: float
    high: float


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


class NonInferiority(Record):
    """Whether `arm` keeps the share `keep` of the score of `baseline`.

    `kept` is the share that it has. `p` is that of mean(arm - keep · baseline) being at most 0; `holds` where `p_holm`,
    adjusted over the arms of this metric, is at most 0.05. `margin` is what may be lost, in the metric's figures;
    `provable` the margin that these examples and seeds would show for two equal arms in 80 % of cases after this
    adjustment, and `examples_needed` how many examples would show `margin` with as many seeds: None where no number
    would, since the trainings differ too much. `gained` is the share of the baseline's gain over the original that the
    arm has, where there is an original and the gain is sure.
    """

    metric: str
    arm: str
    baseline: str
    keep: float
    kept: Interval
    p: float
    p_holm: float
    holds: bool
    margin: float
    provable: float
    examples_needed: int | None
    gained: Interval | None


class Evidence(Record):
    """What the scores of a run show. `means` by arm and metric, `by_seed` a mean for each seed; pairs in order.

    `resamples` is 0 for several seeds, whose intervals and tests resample nothing.
    """

    examples: int
    seeds: list[int]
    resamples: int
    means: dict[str, dict[str, Interval]]
    by_seed: dict[str, dict[str, list[float]]]
    differences: list[PairedDifference]
    non_inferiority: list[NonInferiority]


def weigh(
    scores: Mapping[str, Array],
    arms: Sequence[str],
    seeds: Sequence[int],
    *,
    original: str | None,
    baseline: str | None,
    keep: float,
) -> Evidence:
    """The evidence of `scores`: by metric, arrays (A, S, N) of `arms`, `seeds` and examples.

    Non-inferiority is judged against `baseline`, for every arm but it and `original`. One seed's intervals and tests
    are resampled over examples and speak of these checkpoints; those of several seeds know the spread between
    trainings, too (`crossed.py`), and speak of the methods.
    """
    means: dict[str, dict[str, Interval]] = {arm: {} for arm in arms}
    by_seed: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    differences: list[PairedDifference] = []
    judged: list[NonInferiority] = []
    for metric, values in scores.items():
        inference = Crossed(values) if len(seeds) > 1 else Resampled(values, RESAMPLES, RANDOM_SEED)
        seen = values.mean((1, 2))
        for position, arm in enumerate(arms):
            means[arm][metric] = _interval(seen[position], inference.interval(inference.arms[position]))
            by_seed[arm][metric] = [float(mean) for mean in values[position].mean(1)]
        differences += _differences(metric, arms, values, inference)
        if baseline is not None:
            judged += _judged(metric, arms, values, inference, original, baseline, keep)
    return Evidence(
        examples=next(iter(scores.values())).shape[2],
        seeds=list(seeds),
        resamples=RESAMPLES if len(seeds) == 1 else 0,
        means=means,
        by_seed=by_seed,
        differences=differences,
        non_inferiority=judged,
    )


def _differences(
    metric: str, arms: Sequence[str], values: Array, inference: Crossed | Resampled
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
            detectable=detectable_difference(spread_of(values[a] - values[b]), values.shape[2], len(pairs)),
        )
        for (a, b), own, adjusted in zip(pairs, p, holm(p), strict=True)
    ]


def _judged(
    metric: str,
    arms: Sequence[str],
    values: Array,
    inference: Crossed | Resampled,
    original: str | None,
    baseline: str,
    keep: float,
) -> list[NonInferiority]:
    full = arms.index(baseline)
    first = arms.index(original) if original is not None else None
    judged = [n for n, arm in enumerate(arms) if arm not in (original, baseline)]
    seen, drawn = values.mean((1, 2)), inference.arms
    if not judged or not inference.has_score(full):
        return []
    p = np.array([inference.p_above(drawn[n] - keep * drawn[full]) for n in judged])
    results = []
    for n, own, adjusted in zip(judged, p, holm(p), strict=True):
        spread = spread_of(values[n] - keep * values[full])
        margin = float((1 - keep) * seen[full])
        gained = None
        if first is not None and inference.interval(drawn[full] - drawn[first])[0] > 0:
            gained = _interval(
                (seen[n] - seen[first]) / (seen[full] - seen[first]),
                inference.share(drawn[n] - drawn[first], drawn[full] - drawn[first]),
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
                margin=margin,
                provable=provable_margin(spread, values.shape[2], len(judged)),
                examples_needed=examples_needed(spread, margin, len(judged)),
                gained=gained,
            )
        )
    return results


def _interval(value: float, ends: tuple[float, float]) -> Interval:
    return Interval(value=float(value), low=ends[0], high=ends[1])
