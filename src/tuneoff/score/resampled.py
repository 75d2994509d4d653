"""Intervals and tests of one seed's means, by resampling its examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tuneoff.score.groups import Groups
from tuneoff.score.resampling import Array, bootstrap_means, bootstrap_sums, randomization_p

TAIL = 2.5  # percent beyond either end of an interval


class Resampled:
    """What one seed's scores (A, 1, N) show. With `groups`, these are drawn and exchanged in place of examples.

    Attributes:
        arms: (A, R): each arm's figure in each of R bootstrap resamples: its mean, or where there is a `corpus` figure,
            that of the summed `statistics` (A, 1, N, K). What is computed of arms is computed of these.
    """

    def __init__(
        self,
        values: Array,
        resamples: int,
        random_seed: int,
        statistics: Array | None = None,
        corpus: Callable[[Array], Array] | None = None,
        groups: Groups | None = None,
    ) -> None:
        self._groups = groups
        if statistics is not None and corpus is not None:
            parts = statistics[:, 0] if groups is None else groups.sums(statistics[:, 0], axis=1)
            self.arms = corpus(bootstrap_sums(parts, resamples, random_seed)).T
        elif groups is not None:
            sizes = np.broadcast_to(groups.sizes, (len(values), len(groups)))
            sums = bootstrap_sums(np.stack([groups.sums(values[:, 0]), sizes], axis=2), resamples, random_seed)
            self.arms = (sums[:, :, 0] / sums[:, :, 1]).T
        else:
            self.arms = bootstrap_means(values[:, 0], resamples, random_seed).T
        self._values, self._resamples, self._random_seed = values, resamples, random_seed

    def interval(self, drawn: Array) -> tuple[float, float]:
        """The 95 % percentile interval of `drawn` (R)."""
        low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
        return float(low), float(high)

    def p_different(self, pairs: Sequence[tuple[int, int]]) -> Array:
        """(P): two-sided p-values of pairs of arms, by approximate randomization."""
        paired = np.stack([self._values[a, 0] - self._values[b, 0] for a, b in pairs], axis=1)
        if self._groups is not None:
            paired = self._groups.sums(paired, axis=0)
        return randomization_p(paired, self._resamples, self._random_seed)

    def p_above(self, drawn: Array) -> float:
        """The one-sided p-value of `drawn` (R) being above 0, by the bootstrap."""
        return float(((drawn <= 0).sum() + 1) / (len(drawn) + 1))

    def has_score(self, arm: int) -> bool:
        """Whether shares of this arm's mean can be told."""
        return bool(self._values[arm].mean() > 0)

    def score_share(self, arm: int, whole: int) -> tuple[float, float]:
        """The 95 % percentile interval of an arm's mean over another's; a resample without any score counts, too."""
        return self.interval(self.arms[arm] / np.maximum(self.arms[whole], 1e-12))

    def share(self, part: Array, whole: Array) -> tuple[float, float]:
        """The 95 % percentile interval of `part` / `whole`, both (R), over the resamples that have a whole."""
        some = whole != 0  # few examples of few scores may be drawn without any
        return self.interval(part[some] / whole[some])
