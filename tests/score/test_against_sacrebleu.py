"""Our tests beside sacrebleu's paired tests (Post 2018) on the same per-example scores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sacrebleu.significance import _paired_ar_test, _paired_bs_test

from tuneoff.score.evidence import Figures, weigh
from tuneoff.score.resampling import bootstrap_means, randomization_p


class MeanScore:
    """A metric for sacrebleu whose hypotheses are scores, and whose score is their mean."""

    def _extract_corpus_statistics(self, hypotheses: Any, _: Any) -> NDArray[np.float64]:
        return np.array([[float(h), 1.0] for h in hypotheses])

    def _compute_score_from_stats(self, sums: Any) -> SimpleNamespace:
        return SimpleNamespace(score=sums[0] / sums[1])

    def _aggregate_and_compute(self, stats: Any) -> SimpleNamespace:
        return self._compute_score_from_stats(np.asarray(stats).reshape(-1, 2).sum(0))


def theirs(test: Any, one: NDArray[np.float64], other: NDArray[np.float64]) -> Any:
    metric = MeanScore()
    stats = metric._extract_corpus_statistics(other, None)
    baseline = {"mean": (stats, metric._aggregate_and_compute(stats))}
    results = test(baseline, "system", [str(x) for x in one], None, {"mean": metric}, n_samples=10_000, seed=1)
    return results[1]["mean"]


@pytest.mark.parametrize("gap", [0.0, 0.004, 0.008, 0.03])
def test_approximate_randomization(gap: float) -> None:
    random = np.random.default_rng(3)
    other = random.beta(4, 6, 400)
    one = other + gap + random.normal(0, 0.08, 400)
    ours = randomization_p((one - other)[:, None], 10_000, seed=0)[0]
    assert ours == pytest.approx(theirs(_paired_ar_test, one, other).p_value, abs=0.015)


def test_bootstrap_interval() -> None:
    random = np.random.default_rng(4)
    one, other = random.beta(4, 6, (2, 300))
    low, high = np.percentile(bootstrap_means(one[None], 10_000, seed=0), [2.5, 97.5])
    result = theirs(_paired_bs_test, one, other)
    assert result.score == pytest.approx(one.mean())
    assert (high - low) / 2 == pytest.approx(result.ci, rel=0.04)  # theirs is half of the interval's width
    evidence = weigh(
        {"m": Figures(np.stack([other, one])[:, None])}, ["a", "b"], [0], original=None, baseline=None, keep=0.9
    )
    assert evidence.means["b"]["m"].high - evidence.means["b"]["m"].low == pytest.approx(2 * result.ci, rel=0.04)
