"""How far a mean over seeds and examples may lie from its truth, and how much of that more examples would remove."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tuneoff.score.resampling import Array


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over `seeds` trainings and some number of examples, in parts.

    Attributes:
        seeds: The number of trainings S.
        training: The variance between trainings over S. It stays, however many examples there are.
        interaction: The variance of what a training does to a single example, over S. Examples divide it.
        example: The variance between examples that recurs at every seed. Examples divide it.
    """

    seeds: int
    training: float
    interaction: float
    example: float

    def error(self, examples: float) -> float:
        """The standard error of the mean over so many examples."""
        return math.sqrt(self.training + (self.interaction + self.example) / examples)

    def freedom(self, examples: float) -> float:
        """Degrees of freedom of that error: between S - 1 and `examples` - 1. Infinite for one seed.

        The reciprocals of S - 1 and of `examples` - 1, weighted by the shares of the variance that is known by each.
        Satterthwaite (1946) squares the weights. With few seeds that goes wrong: where trainings happen to lie
        close together, it sees little variance and many degrees of freedom at once. By simulation (bench/evidence.py
        has the cells that matter), two-sided tests at 5 % of three seeds then reject up to 7.7 % of true null
        hypotheses; with plain weights 3.7 to 5.9 %, and 4.0 to 5.1 % of five seeds.
        """
        if self.seeds == 1:
            return math.inf
        by_seed, by_example = self.training + self.interaction / examples, self.example / examples
        if by_example == 0:
            return self.seeds - 1
        share = by_seed / (by_seed + by_example)
        return 1 / (share / (self.seeds - 1) + (1 - share) / (examples - 1))


def spread_of(values: Array) -> Spread:
    """The spread of the mean of `values` (S, N), such as paired differences of two arms at S seeds on N examples.

    Seeds and examples are crossed random factors, and their mean squares are separated as in a two-way analysis of
    variance without replication (Searle, Casella and McCulloch 1992, chapter 4). An estimate below 0 is taken as 0.
    For one seed, all of the variance is that between examples.
    """
    seeds, examples = values.shape
    by_example = values.mean(0)
    variance = float(by_example.var(ddof=1)) if examples > 1 else 0.0
    if seeds == 1:
        return Spread(1, 0.0, 0.0, variance)
    by_seed = values.mean(1)
    between = float(by_seed.var(ddof=1)) / seeds
    if examples == 1:
        return Spread(seeds, between, 0.0, 0.0)
    rest = values - by_example - by_seed[:, None] + by_example.mean()
    within = float(np.vdot(rest, rest)) / ((seeds - 1) * (examples - 1)) / seeds
    return Spread(
        seeds,
        training=max(0.0, between - within / examples),
        interaction=min(within, between * examples),
        example=max(0.0, variance - within),
    )
