"""The part `diagnose` of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tuneoff.recipe.spec import Spec


class DiagnoseSpec(Spec):
    """What is looked at once the trials of a run are done: what training changed in the weights, and what it forgot.

    Attributes:
        ranks: Full fine-tuning's update is cut to each of these ranks, and scored.
        scales: Every arm's update is multiplied by each of these, and scored. 0 (the original model) and 1 (the arm)
            are always among them.
        examples: The most examples of the validation split that these are scored on.
    """

    ranks: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 4, 16, 64])
    scales: list[Annotated[float, Field(ge=0)]] = Field(default=[0.5, 0.75, 1.25])
    examples: Annotated[int, Field(ge=1)] = 64
