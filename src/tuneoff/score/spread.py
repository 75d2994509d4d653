"""How far a mean over seeds and dialogues may lie from its truth, and how much of that more dialogues would remove."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tuneoff.score.resampling import Array


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over `seeds` trainings and some number of dialogues, in parts.

    Attributes:
        seeds: The number of trainings S.
        training: The variance between trainings over S. It stays, however many dialogues there are.
        interaction: The variance of what a training does to a single dialogue, over S. Dialogues divide it.
        dialogue: The variance between dialogues that recurs at every seed. Dialogues divide it.
    """

    seeds: int
    training: float
    interaction: float
    dialogue: float

    def error(self, dialogues: float) -> float:
        """The standard error of the mean over so many dialogues."""
        return math.sqrt(self.training + (self.interaction + self.dialogue) / dialogues)

    def freedom(self, dialogues: float) -> float:
        """Degrees of freedom of that error: between S - 1 and `dialogues` - 1. Infinite for one seed.

        The reciprocals of S - 1 and of `dialogues` - 1, weighted by the shares of the variance that is known by each.
        Satterthwaite (1946) squares the weights. With few seeds that goes wrong: where trainings happen to lie
        close together, it sees little variance and many degrees of freedom at once. By simulation (bench/evidence.py
        has the cells that matter), two-sided tests at 5 % of three seeds then reject up to 7.7 % of true null
        hypotheses; with plain weights 3.7 to 5.9 %, and 4.0 to 5.1 % of five seeds.
        """
        if self.seeds == 1:
            return math.inf
        by_seed, by_dialogue = self.training + self.interaction / dialogues, self.dialogue / dialogues
        if by_dialogue == 0:
            return self.seeds - 1
        share = by_seed / (by_seed + by_dialogue)
        return 1 / (share / (self.seeds - 1) + (1 - share) / (dialogues - 1))


def spread_of(values: Array) -> Spread:
    """The spread of the mean of `values` (S, N), such as paired differences of two arms at S seeds on N dialogues.

    Seeds and dialogues are crossed random factors, and their mean squares are separated as in a two-way analysis of
    variance without replication (Searle, Casella and McCulloch 1992, chapter 4). An estimate below 0 is taken as 0.
    For one seed, all of the variance is that between dialogues.
    """
    seeds, dialogues = values.shape
    by_dialogue = values.mean(0)
    variance = float(by_dialogue.var(ddof=1)) if dialogues > 1 else 0.0
    if seeds == 1:
        return Spread(1, 0.0, 0.0, variance)
    by_seed = values.mean(1)
    between = float(by_seed.var(ddof=1)) / seeds
    if dialogues == 1:
        return Spread(seeds, between, 0.0, 0.0)
    rest = values - by_dialogue - by_seed[:, None] + by_dialogue.mean()
    within = float(np.vdot(rest, rest)) / ((seeds - 1) * (dialogues - 1)) / seeds
    return Spread(
        seeds,
        training=max(0.0, between - within / dialogues),
        interaction=min(within, between * dialogues),
        dialogue=max(0.0, variance - within),
    )
