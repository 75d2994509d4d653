"""Student's t distribution, for any positive degrees of freedom, whole or not. The normal one at infinity."""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL_FROM = 1e6  # degrees of freedom from which the normal distribution is used


def upper_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t with `freedom` degrees of freedom, by the incomplete beta function."""
    if t < 0:
        return 1 - upper_tail(-t, freedom)
    if math.isinf(t):
        return 0.0
    if freedom >= NORMAL_FROM:
        return math.erfc(t / math.sqrt(2)) / 2
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2


def upper_quantile(tail: float, freedom: float) -> float:
    """The t with P(T > t) = `tail`, for a `tail` between 0 and 0.5.

    By Newton's method on the logarithms of t and of the tail, where the tail is concave: it converges from any start.
    """
    start = -NormalDist().inv_cdf(tail)
    if freedom >= NORMAL_FROM:
        return start
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    position = math.log(start)
    for _ in range(50):
        t = math.exp(position)
        beyond = upper_tail(t, freedom)
        density = math.exp(scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = math.log(beyond / tail) * beyond / (t * density)
        position += step
        if abs(step) < 1e-12:
            break
    return math.exp(position)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below only
        return 1 - _incomplete_beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) * _continued_fraction(a, b, x) / a


def _continued_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b) (Abramowitz and Stegun 1964, 26.5.8), by the method of Lentz (1976)."""
    upper, lower = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = lower
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            lower = 1 / (1 + term * lower)
            upper = 1 + term / upper
            fraction *= lower * upper
        if abs(lower * upper - 1) < 1e-14:
            break
    return fraction
