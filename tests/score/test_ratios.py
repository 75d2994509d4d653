"""The paired ratio: what it is of, that it withstands parts that were held up, and that its interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tuneoff.score.ratios import paired_ratio, ratio_over_seeds


def pairs(seed: int, count: int, ratio: float = 0.8, held_up: float = 0.0) -> NDArray[np.float64]:
    """Parts of 0.3 to 1 s with noise of 3 %, of which a share `held_up` takes 1.2 to 3 times as long in either arm."""
    random = np.random.default_rng(seed)
    base = random.uniform(0.3, 1.0, count)
    both = np.stack([ratio * base, base], 1) * np.exp(random.normal(0, 0.03, (count, 2)))
    slow = random.random((count, 2)) < held_up
    return both * np.where(slow, random.uniform(1.2, 3.0, (count, 2)), 1.0)


def test_without_noise_it_is_the_ratio_of_the_sums() -> None:
    parts = np.array([[2.0, 4.0]] * 9 + [[1.0, 2.0]] * 9)
    found = paired_ratio([parts])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_parts_that_were_held_up_hardly_move_it() -> None:
    parts = pairs(0, 200)
    disturbed = parts.copy()
    disturbed[50:60, 0] *= 5
    assert parts[:, 0].sum() / parts[:, 1].sum() == pytest.approx(0.8, rel=0.01)
    assert disturbed[:, 0].sum() / disturbed[:, 1].sum() > 0.9
    assert paired_ratio([disturbed]).value == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize("count", [30, 200])
def test_its_interval_covers_the_truth(count: int) -> None:
    found = [paired_ratio([pairs(seed, count, held_up=0.03)]) for seed in range(100)]
    covered = sum(r.low <= 0.8 <= r.high for r in found if r.low is not None and r.high is not None)
    assert covered >= 88


def test_the_other_way_round_it_is_the_reciprocal() -> None:
    parts = pairs(3, 100, held_up=0.1)
    one, other = paired_ratio([parts]), paired_ratio([parts[:, ::-1]])
    assert one.low is not None and other.high is not None
    assert one.value * other.value == pytest.approx(1.0)
    assert one.low * other.high == pytest.approx(1.0, rel=1e-3)


def test_seeds_count_together_and_few_parts_have_no_interval() -> None:
    alone, both = paired_ratio([pairs(1, 50)]), paired_ratio([pairs(1, 50), pairs(2, 50)])
    assert alone.low is not None and alone.high is not None and both.low is not None and both.high is not None
    assert both.high - both.low < alone.high - alone.low
    few = paired_ratio([pairs(1, 7)])
    assert (few.low, few.high) == (None, None)


def test_what_is_measured_once_a_seed_has_the_range_of_the_seeds() -> None:
    one = ratio_over_seeds([(3.0, 2.0)])
    assert (one.value, one.low, one.high) == (pytest.approx(1.5), None, None)
    three = ratio_over_seeds([(3.0, 2.0), (2.0, 2.0), (4.0, 3.0)])
    assert (three.low, three.high) == (1.0, 1.5)
    assert three.value == pytest.approx(2.0 ** (1 / 3))
