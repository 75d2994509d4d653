"""The optimum of planted curves, and how often its interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuneoff.score.optimum import FoundOptimum, find_optimum, rate_ratios
from tuneoff.score.resampling import Array

EXAMPLES = 200


def planted(
    seed: int, best: float, rates: Array, *, curvature: float = 0.3, noise: float = 0.1, arm: str = "lora", own: int = 0
) -> FoundOptimum:
    """The optimum found of a parabola in log10 of the rate with its vertex at `best`, seen through `EXAMPLES` examples.

    Each example has a level of its own, which all rates share, and noise of its own at each rate.
    """
    shared, noises = np.random.default_rng(seed), np.random.default_rng((seed, own))
    tokens = shared.integers(5, 40, EXAMPLES).astype(np.float64)
    level = 2 + shared.normal(0, 0.5, EXAMPLES)
    curve = curvature * np.log10(rates / best) ** 2
    means = level + curve[:, None] + noises.normal(0, noise, (len(rates), EXAMPLES))
    return find_optimum(arm, 10, float(rates[len(rates) // 2]), rates, means * tokens, tokens)


GRID = 10.0 ** np.arange(-5, -0.9, 0.5)


@pytest.mark.parametrize("seed", range(10))
def test_without_noise_the_vertex_is_found_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = 10 ** np.sort(rng.uniform(-5, -1, rng.integers(4, 9)))  # unevenly spaced, in any order
    best = 10 ** rng.uniform(np.log10(rates[0]) + 0.8, np.log10(rates[-1]) - 0.8)
    found = planted(seed, best, rng.permutation(rates), noise=0.0).optimum
    tried = rates[np.abs(np.log10(rates / best)).argmin()]
    if tried in (rates[0], rates[-1]):
        assert found.edge is not None and found.rate == tried and found.low is found.high is found.loss is None
        return
    if found.diverged is not None:  # the lowest rate is not far enough for a parabola to be told from a break
        assert found.below is not None and found.above is not None and found.below < best < found.above
        return
    assert found.rate == pytest.approx(best, rel=1e-6)
    assert found.low == pytest.approx(best, rel=1e-6) and found.high == pytest.approx(best, rel=1e-6)
    assert found.loss is not None
    for factor, loss in ((0.5, found.loss_at_half), (1.0, found.loss_at_chosen), (2.0, found.loss_at_double)):
        if not rates[0] <= found.chosen * factor <= rates[-1]:
            assert loss is None  # beyond the rates that were tried
            continue
        assert loss is not None and found.below is not None and found.above is not None
        if found.below <= found.chosen * factor <= found.above:
            assert loss - found.loss == pytest.approx(0.3 * math.log10(found.chosen * factor / best) ** 2, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_no_rate_is_predicted_to_be_better_than_the_optimum(seed: int) -> None:
    """Towards high rates the loss rises steeply, as that of real trainings does: a parabola there would dip far."""
    rng = np.random.default_rng(seed)
    rates, tokens = np.array([1e-3, 3e-3, 1e-2, 3e-2]), np.full(30, 20.0)
    for middle in (1, 2):
        losses = np.array([2.85, 2.6, 2.6, 2.7 + rng.uniform(0, 4)]) + rng.uniform(-0.05, 0.05, 4)
        losses[middle] = 2.45
        found = find_optimum("arm", 8, rates[middle], rates, losses[:, None] * tokens, tokens).optimum
        if not found.located:
            continue
        assert found.loss is not None and found.loss <= 2.45 + 1e-9
        for loss in (found.loss_at_half, found.loss_at_chosen, found.loss_at_double):
            assert loss is not None and loss >= found.loss - 1e-9


def test_beyond_the_neighbours_of_the_best_the_loss_is_on_a_line() -> None:
    rates, tokens = np.array([1e-4, 1e-3, 2e-3, 4e-3, 1e-1]), np.full(3, 10.0)
    losses = np.array([3.0, 2.2, 2.0, 2.1, 3.1])
    found = find_optimum("arm", 8, 5e-3, rates, losses[:, None] * tokens, tokens).optimum
    share = math.log10(1e-2 / 4e-3) / math.log10(1e-1 / 4e-3)
    assert found.loss_at_double == pytest.approx(2.1 + share * 1.0)


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_the_interval_holds_the_truth_in_95_percent_of_cases(noise: float, offset: float) -> None:
    best = 10 ** (-3 + offset)
    found = [planted(seed, best, GRID, noise=noise).optimum for seed in range(200)]
    assert all(one.located for one in found)
    inside = sum((one.low or 0) <= best <= (one.high or math.inf) for one in found)
    assert 0.90 <= inside / len(found) <= 1.0
    widths = [math.log10(one.high / one.low) for one in found if one.high and one.low]
    assert len(widths) > 190 and np.median(widths) < 0.5  # a tenth of the grid's range


def test_the_ratio_is_paired_and_holds_the_truth() -> None:
    inside = 0
    for seed in range(100):
        full = planted(seed, 10**-3.6, GRID, noise=0.2, arm="full", own=1)
        lora = planted(seed, 10**-2.6, GRID, noise=0.2, arm="lora", own=2)
        (ratio,) = rate_ratios([full, lora], "full")
        assert (ratio.arm, ratio.baseline) == ("lora", "full")
        assert ratio.value == pytest.approx(lora.optimum.rate / full.optimum.rate)
        assert ratio.low is not None and ratio.high is not None
        inside += ratio.low <= 10 <= ratio.high
    assert 90 <= inside <= 100


def test_a_curve_and_ten_times_the_same_have_a_ratio_of_ten_exactly() -> None:
    full = planted(1, 1e-4, 1e-6 * 10.0 ** np.arange(5), arm="full")
    lora = planted(1, 1e-3, 1e-5 * 10.0 ** np.arange(5), arm="lora")
    (ratio,) = rate_ratios([lora, full], "full")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([10.0] * 3)


@pytest.mark.parametrize(("best", "edge", "tried"), [(1e-7, "lowest", 1e-5), (1.0, "highest", 1e-1)])
def test_at_an_edge_it_is_a_bound_and_no_interval_is_claimed(best: float, edge: str, tried: float) -> None:
    found = planted(0, best, GRID)
    one = found.optimum
    assert (one.edge, one.rate) == (edge, pytest.approx(tried))
    assert one.low is one.high is one.loss is one.loss_at_half is one.loss_at_double is None
    assert rate_ratios([found, planted(0, 1e-3, GRID, arm="full")], "full") == []
    assert rate_ratios([planted(0, 1e-3, GRID, arm="x"), planted(0, best, GRID, arm="full")], "full") == []


def test_an_interval_that_reaches_an_edge_is_open_there() -> None:
    opened = [planted(seed, 10**-4.5, GRID, curvature=0.02, noise=0.3).optimum for seed in range(20)]
    inner = [one for one in opened if one.located]
    assert inner and any(one.low is None for one in inner)
    assert all(one.high is not None for one in inner if one.rate < 1e-4)
    full = planted(0, 1e-3, GRID, arm="full")
    seed = next(seed for seed, one in enumerate(opened) if one.located and one.low is None and one.high)
    lora = planted(seed, 10**-4.5, GRID, curvature=0.02, noise=0.3)
    (ratio,) = rate_ratios([full, lora], "full")
    assert ratio.low is None and ratio.high is not None


def test_what_diverges_at_high_rates_does_not_move_the_optimum() -> None:
    rates = GRID[:7]
    tokens = np.full(EXAMPLES, 10.0)
    curve = 2 + 0.3 * np.log10(rates / 10**-3.4) ** 2
    wild = np.where(np.arange(7) == 6, 50.0, curve)
    optima = [
        find_optimum("x", 1, 1e-3, rates, 10 * np.broadcast_to(c[:, None], (7, EXAMPLES)), tokens).optimum
        for c in (curve, wild)
    ]
    for one in optima:
        assert [one.rate, one.low, one.high] == pytest.approx([10**-3.4] * 3)


def test_beside_a_rate_that_diverged_only_its_neighbours_bound_the_optimum() -> None:
    tokens = np.full(EXAMPLES, 10.0)
    curve = np.array([4.0, 3.5, 3.3, 13.7])  # measured on dialog-t5-nano
    nats = 10 * np.broadcast_to(curve[:, None], (4, EXAMPLES))
    found = find_optimum("x", 1, 3e-3, np.array([3e-5, 3e-4, 3e-3, 3e-2]), nats, tokens)
    one = found.optimum
    assert (one.rate, one.below, one.above, one.diverged, one.edge) == (3e-3, 3e-4, 3e-2, 3e-2, None)
    assert one.low is one.high is one.loss is one.loss_at_half is None and not one.located
    assert rate_ratios([found, planted(0, 1e-3, GRID, arm="full")], "full") == []


def test_equal_losses_are_at_the_first_rate() -> None:
    tokens = np.ones(10)
    found = find_optimum("x", 1, 1e-3, GRID, np.ones((len(GRID), 10)), tokens).optimum
    assert (found.edge, found.rate) == ("lowest", GRID[0])
