"""A recipe → its trials: every arm at every seed."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.recipe.schema import Recipe


@dataclass(frozen=True)
class Trial:
    """One arm at one seed."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}/seed-{self.seed}"


def trials(recipe: Recipe) -> list[Trial]:
    """All trials, seed by seed. An arm that trains nothing is the same at every seed: it has one trial."""
    return [
        Trial(name, seed)
        for position, seed in enumerate(recipe.seeds)
        for name, arm in recipe.arms.items()
        if arm.trains or position == 0
    ]
