"""What a test set can show: against published figures, and against simulated tests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuneoff.score.power import detectable_difference, examples_needed, provable_margin
from tuneoff.score.spread import Spread


def one_seed(deviation: float) -> Spread:
    return Spread(seeds=1, training=0.0, interaction=0.0, example=deviation**2)


@pytest.mark.parametrize(("deviation", "needed"), [(0.08, 275), (0.10, 430), (0.13, 726)])
def test_examples_needed_for_a_margin(deviation: float, needed: int) -> None:
    """At a margin of 1.2 points; the normal quantiles are 1.6449 and 0.8416."""
    assert examples_needed(one_seed(deviation), 0.012, 1) == needed
    assert provable_margin(one_seed(deviation), needed, 1) == pytest.approx(0.012, rel=0.005)


def test_a_difference_is_found_as_often_as_the_power_says() -> None:
    random = np.random.default_rng(8)
    size = detectable_difference(one_seed(1.0), 100, 1)
    samples = random.normal(size, 1.0, (4000, 100))
    t = samples.mean(1) / (samples.std(1, ddof=1) / 10)
    assert (np.abs(t) > 1.96).mean() == pytest.approx(0.8, abs=0.03)


def test_a_family_of_tests_needs_more() -> None:
    spread = one_seed(0.1)
    assert detectable_difference(spread, 500, 3) / detectable_difference(spread, 500, 1) == pytest.approx(
        3.236 / 2.802, rel=1e-3
    )
    one, two = (examples_needed(spread, 0.012, family) for family in (1, 2))
    assert one is not None
    assert two is not None
    assert two > one


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_examples_needed_are_the_fewest_that_do(seeds: int) -> None:
    spread = Spread(seeds, training=1e-6, interaction=0.003, example=0.005)
    needed = examples_needed(spread, 0.012, 2)
    assert needed is not None
    assert provable_margin(spread, needed, 2) <= 0.012 < provable_margin(spread, needed - 1, 2)


def test_examples_do_not_make_up_for_trainings_that_differ() -> None:
    spread = Spread(3, training=0.01**2 / 3, interaction=0.003, example=0.005)
    assert examples_needed(spread, 0.012, 1) is None
    assert provable_margin(spread, 10**9, 1) > 0.012
    assert examples_needed(spread, 0.05, 1) is not None
    assert math.isclose(spread.error(10**12), 0.01 / math.sqrt(3), rel_tol=1e-6)
