"""What a test set can show: the smallest difference that it would find, and how many examples a margin needs.

At 80 % power and α = 0.05. A test's statistic is taken to be off the true difference by Student's t with the degrees
of freedom of `Spread`: the normal approximation with one seed. In a family of m tests each is taken at α / m
(Bonferroni), the first and hardest step of Holm's procedure, so that the power under Holm is no lower.
"""

from __future__ import annotations

import math

from tuneoff.score.spread import Spread
from tuneoff.score.student import upper_quantile

POWER, ALPHA = 0.8, 0.05
MOST = 10**9  # examples: what these do not show, no number does


def detectable_difference(spread: Spread, examples: int, family: int) -> float:
    """The true difference that a two-sided test on so many examples finds in 80 % of cases, among `family` tests."""
    return _shown(spread, examples, ALPHA / 2 / family)


def provable_margin(spread: Spread, examples: int, family: int) -> float:
    """The margin within which a one-sided test shows two equal arms to lie in 80 % of cases, among `family` tests."""
    return _shown(spread, examples, ALPHA / family)


def examples_needed(spread: Spread, margin: float, family: int) -> int | None:
    """Examples for `provable_margin` to be `margin`. None where these seeds differ too much for any number of them."""
    quantiles = upper_quantile(ALPHA / family, math.inf) + upper_quantile(1 - POWER, math.inf)
    room = (margin / quantiles) ** 2 - spread.training
    if room <= 0:
        return None
    enough = math.ceil((spread.interaction + spread.example) / room)  # by normal quantiles: the fewest that could do
    if spread.seeds == 1:
        return enough
    few, enough = 1, max(2, enough)
    while provable_margin(spread, enough, family) > margin:
        few, enough = enough, 2 * enough
        if enough > MOST:
            return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (middle, enough) if provable_margin(spread, middle, family) > margin else (few, middle)
    return enough


def _shown(spread: Spread, examples: int, level: float) -> float:
    freedom = spread.freedom(examples)
    return (upper_quantile(level, freedom) + upper_quantile(1 - POWER, freedom)) * spread.error(examples)
