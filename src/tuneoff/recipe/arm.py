"""An arm of a recipe: a method, its learning rate and its settings."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tuneoff.recipe.spec import Spec, Text


class TuneSpec(Spec):
    """A search on the validation split before the arm's trials: each rate is tried for `training.tune_steps`."""

    learning_rate: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]


class ArmSpec(BaseModel):
    """One candidate. Every key besides these three is a setting of the method, by peft's own name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: Text
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    tune: TuneSpec | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The method's own settings."""
        return dict(self.model_extra or {})

    @property
    def trains(self) -> bool:
        return self.method != "none"

    @model_validator(mode="after")
    def _learning_rate_where_it_trains(self) -> Self:
        if self.trains and self.learning_rate is None and self.tune is None:
            raise ValueError(
                f"method {self.method!r} needs a `learning_rate` (usual: 5.0e-5 for full, 1.0e-3 for lora), "
                "or `tune: {learning_rate: [...]}` to search for one"
            )
        if self.learning_rate is not None and self.tune is not None:
            raise ValueError("give either `learning_rate` or `tune: {learning_rate: [...]}`, not both")
        if not self.trains and (self.learning_rate is not None or self.tune is not None or self.settings):
            raise ValueError("method 'none' is the original model and takes no settings")
        return self
