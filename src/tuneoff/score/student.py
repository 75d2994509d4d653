"""Student's t distribution, for any positive degrees of freedom, whole or not. The normal one at infinity."""

from __future__ import annotations


def upper_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def upper_quantile(tail: float, freedom: float) -> float:
    """The t with P(T > t) = `tail`, which lies between 0 and 1."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, tail))
