"""Examples that depend on each other: groups are drawn, exchanged and counted in their place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.groups import Groups
from tuneoff.score.optimum import find_optimum
from tuneoff.score.update import gain_kept, loss_change

ARMS = ["original", "full", "lora"]


def clustered(random: np.random.Generator, groups: int, size: int, shift: float = 0.0, seeds: int = 1) -> np.ndarray:
    """(3, seeds, groups · size): half of the variance of a difference is that of its group."""
    shape = (3, seeds, groups * size)
    by_group = np.repeat(random.normal(0, 0.1, (3, 1, groups)), size, axis=2)
    own = by_group + random.normal(0, 0.1, shape)
    return 0.5 + own + np.array([0.0, shift, shift])[:, None, None]


def labels(groups: int, size: int) -> list[int]:
    return [n // size for n in range(groups * size)]


def weighed(values: np.ndarray, groups: Groups | None) -> Evidence:
    return weigh({"m": Figures(values)}, ARMS, list(range(values.shape[1])), original="original", baseline="full",
                 keep=0.97, groups=groups)  # fmt: skip


def test_without_labels_or_with_groups_of_one_there_are_no_groups() -> None:
    assert Groups.of(None) is None
    assert Groups.of([3, 1, 2]) is None
    values = clustered(np.random.default_rng(0), 40, 1)
    assert weighed(values, Groups.of(list(range(40)))) == weighed(values, None)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 1000))
def test_sums_and_spread_values_are_of_the_groups(marks: list[int], seed: int) -> None:
    groups = Groups.of(marks)
    if groups is None:
        return
    values = np.random.default_rng(seed).normal(size=(2, len(marks)))
    order = list(dict.fromkeys(marks))
    expected = [[sum(v for v, m in zip(row, marks, strict=True) if m == mark) for mark in order] for row in values]
    np.testing.assert_allclose(groups.sums(values), expected)
    assert groups.sizes.tolist() == [marks.count(mark) for mark in order]
    np.testing.assert_allclose(groups.spread_values(values).mean(-1), values.mean(-1))


def test_groups_of_equal_examples_are_as_one_example_of_each() -> None:
    """Every example five times over says no more than once: the interval is that of the 60 alone."""
    values = clustered(np.random.default_rng(1), 60, 1, shift=0.05)
    repeated, groups = np.repeat(values, 5, axis=2), Groups.of(labels(60, 5))
    once, five = weighed(values, None), weighed(repeated, groups)
    assert (five.examples, five.groups) == (300, 60)
    for a, b in zip(once.differences, five.differences, strict=True):
        assert b.difference.low == pytest.approx(a.difference.low, abs=1e-9)
        assert b.difference.high == pytest.approx(a.difference.high, abs=1e-9)
        assert b.p == a.p
        assert b.detectable == pytest.approx(a.detectable)
    needed = [e.non_inferiority[0].examples_needed for e in (once, five)]
    assert needed[0] is not None and needed[1] is not None
    assert needed[1] == pytest.approx(5 * needed[0], abs=5)
    naive = weighed(repeated, None)
    assert naive.differences[0].p < five.differences[0].p


def test_several_seeds_know_the_groups_too() -> None:
    values = clustered(np.random.default_rng(2), 60, 1, seeds=3)
    once, five = weighed(values, None), weighed(np.repeat(values, 5, axis=2), Groups.of(labels(60, 5)))
    for a, b in zip(once.differences, five.differences, strict=True):
        assert b.difference.low == pytest.approx(a.difference.low, abs=1e-9)
        assert b.p == pytest.approx(a.p)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_truth_where_examples_depend_on_each_other(seeds: int) -> None:
    """Nominal 95 %; of 300 repetitions a true 95 % shows as 92 to 98. Without groups far fewer cover it."""
    random, groups = np.random.default_rng(3), Groups.of(labels(50, 6))
    covered = {"groups": 0, "examples": 0}
    for _ in range(300):
        values = clustered(random, 50, 6, seeds=seeds)
        for name, own in (("groups", groups), ("examples", None)):
            interval = _interval(values, own)
            covered[name] += interval[0] <= 0 <= interval[1]
    assert 0.915 <= covered["groups"] / 300 <= 0.985
    assert covered["examples"] / 300 < 0.85


def _interval(values: np.ndarray, groups: Groups | None) -> tuple[float, float]:
    """The interval of the difference of the first two arms, by fewer resamples than a report's."""
    from tuneoff.score.crossed import Crossed
    from tuneoff.score.resampled import Resampled

    if values.shape[1] > 1:
        found = Crossed(values if groups is None else groups.spread_values(values))
        return found.interval(found.arms[1] - found.arms[0])
    drawn = Resampled(values, 600, 0, groups=groups)
    return drawn.interval(drawn.arms[1] - drawn.arms[0])


def test_unequal_groups_are_a_ratio_of_sums() -> None:
    """One group of 40 and 20 of 1: the mean is over examples, and most of the spread is that of the one group."""
    random = np.random.default_rng(4)
    marks = [0] * 40 + list(range(1, 21))
    values = 0.5 + random.normal(0, 0.01, (3, 1, 60))
    values[1, 0, :40] += 0.2
    found = weighed(values, Groups.of(marks))
    assert found.groups == 21
    assert found.means["full"]["m"].value == pytest.approx(values[1].mean())
    (full, *_) = found.differences
    assert full.difference.low < 0.02 and full.difference.high > 0.17  # the large group is drawn, or is not
    assert full.p > 0.3


def test_of_corpus_metrics_sums_are_drawn_by_group() -> None:
    random = np.random.default_rng(5)
    statistics = random.integers(1, 9, (3, 1, 30, 2)).astype(float)

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    def figures(own: np.ndarray) -> Figures:
        return Figures(own[..., 0] / own[..., 1], statistics=own, corpus=ratio)

    once = weigh({"m": figures(statistics)}, ARMS, [0], original=None, baseline=None, keep=None)
    again = np.repeat(statistics, 4, axis=2)
    five = weigh(
        {"m": figures(again)}, ARMS, [0], original=None, baseline=None, keep=None, groups=Groups.of(labels(30, 4))
    )
    for a, b in zip(once.differences, five.differences, strict=True):
        assert b.difference.low == pytest.approx(a.difference.low)


def test_validation_losses_are_drawn_by_group() -> None:
    random = np.random.default_rng(6)
    before, tokens = random.normal(20, 3, 24), random.integers(5, 15, 24).astype(float)
    after = before - random.normal(3, 1, 24)
    five = [np.repeat(values, 5) for values in (before, after, tokens)]
    groups = Groups.of(labels(24, 5))
    assert loss_change(*five, groups).low == pytest.approx(loss_change(before, after, tokens).low)
    once, grouped = (
        gain_kept(before, after, (before + after) / 2),
        gain_kept(five[0], five[1], (five[0] + five[1]) / 2, groups),
    )
    assert once is not None and grouped is not None
    assert grouped.low == pytest.approx(once.low)
    rates, curve = np.array([1e-4, 3e-4, 1e-3, 3e-3, 1e-2]), np.array([2.6, 2.2, 2.0, 2.1, 2.5])
    nats = curve[:, None] * tokens + random.normal(0, 2, (5, 24))
    alone = find_optimum("x", 1, 1e-3, rates, nats, tokens).optimum
    both = find_optimum("x", 1, 1e-3, rates, np.repeat(nats, 5, axis=1), five[2], groups).optimum
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
