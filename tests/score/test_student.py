"""Student's t against its closed forms and printed tables."""

from __future__ import annotations

import math

import pytest

from tuneoff.score.student import upper_quantile, upper_tail


@pytest.mark.parametrize("t", [-3.0, 0.0, 0.1, 1.0, 4.0, 50.0])
def test_tails_of_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    assert upper_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-9)
    assert upper_tail(t, 2) == pytest.approx(0.5 - t / 2 / math.sqrt(2 + t * t), rel=1e-9)


@pytest.mark.parametrize(
    ("tail", "freedom", "expected"),
    [(0.025, 1, 12.7062), (0.025, 2, 4.3027), (0.05, 4, 2.1318), (0.005, 10, 3.1693), (0.025, 120, 1.9799),
     (0.025, 1e5, 1.9600), (0.025, math.inf, 1.9600)],
)  # fmt: skip
def test_quantiles_of_tables(tail: float, freedom: float, expected: float) -> None:
    assert upper_quantile(tail, freedom) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("freedom", [1.0, 2.7, 33.3, 5000.0])
@pytest.mark.parametrize("tail", [0.4, 0.2, 0.01, 1e-6])
def test_a_quantile_has_its_tail(tail: float, freedom: float) -> None:
    assert upper_tail(upper_quantile(tail, freedom), freedom) == pytest.approx(tail, rel=1e-9)


def test_the_farthest_tail_is_empty() -> None:
    assert upper_tail(math.inf, 3.0) == 0.0
    assert upper_tail(-math.inf, math.inf) == 1.0
