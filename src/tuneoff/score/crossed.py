"""Intervals and tests of means over several seeds and the same examples at each of them.

Every training is a draw of its own, and two arms at one seed share the order of their examples: what is compared is
the paired differences (S, N), seed by seed and example by example. Their mean is judged by Student's t with the error
and the degrees of freedom of `Spread`, as in a mixed model with seeds and examples as crossed random factors (Baayen,
Davidson and Bates 2008).

Why not resample, as with one seed? Flipping the signs of three seeds has 8 outcomes, so that no two-sided p-value can
be below 0.25. A bootstrap over S seeds knows (S - 1) / S of their variance, and not how little it knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tuneoff.score.resampling import Array
from tuneoff.score.spread import spread_of
from tuneoff.score.student import upper_quantile, upper_tail

TAIL = 0.025  # beyond either end of an interval


class Crossed:
    """What several seeds' scores (A, S, N) show.

    Attributes:
        arms: The scores, (A, S, N). What is computed of arms is computed of these, score by score.
    """

    def __init__(self, values: Array) -> None:
        self.arms = values

    def interval(self, values: Array) -> tuple[float, float]:
        """The 95 % interval of the mean of `values` (S, N)."""
        mean, spread, examples = float(values.mean()), spread_of(values), values.shape[1]
        reach = upper_quantile(TAIL, spread.freedom(examples)) * spread.error(examples)
        return mean - reach, mean + reach

    def p_different(self, pairs: Sequence[tuple[int, int]]) -> Array:
        """(P): two-sided p-values of pairs of arms: at most 0.05 where `interval` is without 0."""
        return np.array([_p_different(self.arms[a] - self.arms[b]) for a, b in pairs])

    def p_above(self, values: Array) -> float:
        """The one-sided p-value of the mean of `values` (S, N) being above 0."""
        return upper_tail(*_statistic(values))

    def has_score(self, arm: int) -> bool:
        """Whether shares of this arm's mean can be told."""
        return bool(self.arms[arm].mean() > 0)

    def score_share(self, arm: int, whole: int) -> tuple[float, float]:
        """The 95 % interval of an arm's mean over another's, which is above 0."""
        return self.share(self.arms[arm], self.arms[whole])

    def share(self, part: Array, whole: Array) -> tuple[float, float]:
        """The 95 % interval of mean(part) / mean(whole), both (S, N), where the mean of `whole` is above 0.

        It holds the shares r for which mean(part - r · whole) is not shown to differ from 0 (Fieller 1954). So it
        agrees with `p_above` of that difference, at 2.5 %.
        Where the interval of `whole` reaches 0, such shares have no end: then it is that of mean(part) with `whole`
        taken to be known.
        """
        centre = float(part.mean() / whole.mean())
        rest = part - centre * whole
        step = spread_of(rest).error(part.shape[1]) / float(whole.mean())
        if step == 0:
            return centre, centre
        if self.interval(whole)[0] <= 0:
            low, high = self.interval(rest)
            return centre + low / float(whole.mean()), centre + high / float(whole.mean())
        return centre + _reach(rest, whole, -step), centre + _reach(rest, whole, step)


def _reach(rest: Array, whole: Array, step: float) -> float:
    """The share farthest from 0, in the direction of `step`, at which mean(rest - share · whole) may be 0."""
    near, far = 0.0, step
    while _p_different(rest - far * whole) > 2 * TAIL:
        near, far = far, 2 * far
    while abs(far - near) > 1e-7 * max(abs(far), abs(step)):
        middle = (near + far) / 2
        near, far = (middle, far) if _p_different(rest - middle * whole) > 2 * TAIL else (near, middle)
    return near


def _p_different(values: Array) -> float:
    t, freedom = _statistic(values)
    return 2 * upper_tail(abs(t), freedom)


def _statistic(values: Array) -> tuple[float, float]:
    """The mean of `values` (S, N) over its standard error, and the degrees of freedom."""
    mean, spread, examples = float(values.mean()), spread_of(values), values.shape[1]
    error = spread.error(examples)
    t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean != 0 else 0.0
    return t, spread.freedom(examples)
