"""Per-dialogue scores of several arms → what they show: differences with intervals, tests, non-inferiority, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tuneoff.records import Record
from tuneoff.score.power import detectable_difference, dialogues_needed, provable_margin
from tuneoff.score.resampling import Array, bootstrap_means, holm, randomization_p

RESAMPLES = 10_000
RANDOM_SEED = 12345  # as sacrebleu's
TAIL = 2.5  # percent beyond either end of an interval


class Interval(Record):
    """A figure with its 95 % bootstrap interval (percentile)."""

    value: float
    low: float
    high: float


class PairedDifference(Record):
    """`arm` minus `other` on the same dialogues, in F-measure.

    `p` is two-sided, by approximate randomization; `p_holm` is adjusted over all pairs of arms of this metric.
    `detectable` is the true difference that this test set would find in 80 % of cases.
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

    `kept` is the share that it has. `p` is that of mean(arm - keep · baseline) being at most 0, by the bootstrap;
    `holds` where `p_holm`, adjusted over the arms of this metric, is at most 0.05. `margin` is what may be lost, in
    F-measure; `provable` the margin that this many dialogues would show for two equal arms in 80 % of cases, and
    `dialogues_needed` how many would show `margin`. `gained` is the share of the baseline's gain over the original
    that the arm has, where there is an original and the gain is sure.
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
    dialogues_needed: int
    gained: Interval | None


class Evidence(Record):
    """What the scores of a run show. `means` by arm and metric, `by_seed` a mean for each seed; pairs in order."""

    dialogues: int
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
    """The evidence of `scores`: by metric, arrays (A, S, N) of `arms`, `seeds` and dialogues.

    Non-inferiority is judged against `baseline`, for every arm but it and `original`. With several seeds, intervals
    hold their spread too; tests compare each dialogue's mean over seeds.
    """
    means: dict[str, dict[str, Interval]] = {arm: {} for arm in arms}
    by_seed: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    differences: list[PairedDifference] = []
    judged: list[NonInferiority] = []
    for metric, values in scores.items():
        drawn = bootstrap_means(values, RESAMPLES, RANDOM_SEED)
        seen = values.mean((1, 2))
        for position, arm in enumerate(arms):
            means[arm][metric] = _interval(float(seen[position]), drawn[:, position])
            by_seed[arm][metric] = [float(mean) for mean in values[position].mean(1)]
        differences += _differences(metric, arms, values, drawn)
        if baseline is not None:
            judged += _judged(metric, arms, values, drawn, original, baseline, keep)
    return Evidence(
        dialogues=next(iter(scores.values())).shape[2],
        seeds=list(seeds),
        resamples=RESAMPLES,
        means=means,
        by_seed=by_seed,
        differences=differences,
        non_inferiority=judged,
    )


def _differences(metric: str, arms: Sequence[str], values: Array, drawn: Array) -> list[PairedDifference]:
    pairs = [(b, a) for a, b in combinations(range(len(arms)), 2)]  # the later arm minus the earlier
    if not pairs:
        return []
    by_dialogue = values.mean(1)  # (A, N)
    paired = np.stack([by_dialogue[a] - by_dialogue[b] for a, b in pairs], axis=1)  # (N, P)
    p = randomization_p(paired, RESAMPLES, RANDOM_SEED)
    return [
        PairedDifference(
            metric=metric,
            arm=arms[a],
            other=arms[b],
            difference=_interval(float(paired[:, n].mean()), drawn[:, a] - drawn[:, b]),
            p=float(p[n]),
            p_holm=float(adjusted),
            detectable=detectable_difference(_deviation(paired[:, n]), len(paired)),
        )
        for n, ((a, b), adjusted) in enumerate(zip(pairs, holm(p), strict=True))
    ]


def _judged(
    metric: str,
    arms: Sequence[str],
    values: Array,
    drawn: Array,
    original: str | None,
    baseline: str,
    keep: float,
) -> list[NonInferiority]:
    full = arms.index(baseline)
    first = arms.index(original) if original is not None else None
    judged = [n for n, arm in enumerate(arms) if arm not in (original, baseline)]
    by_dialogue, seen = values.mean(1), values.mean((1, 2))
    if not judged or not seen[full] > 0:
        return []
    p = np.array([((drawn[:, n] - keep * drawn[:, full] <= 0).sum() + 1) / (RESAMPLES + 1) for n in judged])
    results = []
    for n, own, adjusted in zip(judged, p, holm(p), strict=True):
        deviation = _deviation(by_dialogue[n] - keep * by_dialogue[full])
        margin = float((1 - keep) * seen[full])
        gained = None
        if first is not None and np.percentile(drawn[:, full] - drawn[:, first], TAIL) > 0:
            gain = drawn[:, full] - drawn[:, first]
            some = gain != 0  # few dialogues of few scores may be drawn without any
            shares = (drawn[some, n] - drawn[some, first]) / gain[some]
            gained = _interval(float((seen[n] - seen[first]) / (seen[full] - seen[first])), shares)
        results.append(
            NonInferiority(
                metric=metric,
                arm=arms[n],
                baseline=baseline,
                keep=keep,
                kept=_interval(float(seen[n] / seen[full]), drawn[:, n] / np.maximum(drawn[:, full], 1e-12)),
                p=float(own),
                p_holm=float(adjusted),
                holds=bool(adjusted <= 0.05),
                margin=margin,
                provable=provable_margin(deviation, by_dialogue.shape[1]),
                dialogues_needed=dialogues_needed(deviation, margin),
                gained=gained,
            )
        )
    return results


def _interval(value: float, drawn: Array) -> Interval:
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    return Interval(value=value, low=float(low), high=float(high))


def _deviation(differences: Array) -> float:
    return float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
