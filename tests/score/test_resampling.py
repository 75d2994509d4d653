"""Resampling against plain loops, formulas and exact values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tuneoff.score.resampling import bootstrap_means, holm, randomization_p


def test_the_bootstrap_has_the_mean_and_spread_of_its_theory() -> None:
    scores = np.random.default_rng(1).beta(2, 5, (3, 200))
    means = bootstrap_means(scores, 20_000, seed=0)
    assert means.shape == (20_000, 3)
    np.testing.assert_allclose(means.mean(0), scores.mean(1), atol=3e-4)
    np.testing.assert_allclose(means.std(0), scores.std(1) / math.sqrt(200), rtol=0.03)


def test_all_arms_are_resampled_alike() -> None:
    one = np.random.default_rng(2).random((1, 50))
    means = bootstrap_means(np.concatenate([one, one + 0.25]), 500, seed=3)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)


def test_resamples_come_from_the_seed_alone() -> None:
    scores = np.random.default_rng(5).random((2, 30))
    assert np.array_equal(bootstrap_means(scores, 400, 7), bootstrap_means(scores, 400, 7))
    assert not np.array_equal(bootstrap_means(scores, 400, 7), bootstrap_means(scores, 400, 8))


def test_randomization_is_near_the_exact_test() -> None:
    differences = np.random.default_rng(6).normal(0.3, 1.0, (10, 2))
    signs = np.array(list(itertools.product((-1, 1), repeat=10)))
    exact = (np.abs(signs @ differences) >= np.abs(differences.sum(0)) - 1e-9).mean(0)
    np.testing.assert_allclose(randomization_p(differences, 50_000, seed=0), exact, atol=0.01)


def test_no_difference_is_never_significant_and_a_sure_one_has_the_smallest_p() -> None:
    differences = np.stack([np.zeros(40), np.full(40, 0.1)], axis=1)
    assert randomization_p(differences, 999, seed=0).tolist() == [1.0, pytest.approx(1 / 1000)]


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1.0, 1.0])
