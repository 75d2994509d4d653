"""An arm of a recipe: a method, its learning rate and its settings."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tuneoff.recipe.spec import Setting, Spec, Text

RANK = "r"  # the setting that `params` solves, as most methods of peft call their rank
UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


class TuneSpec(Spec):
    """A search on the validation split before the arm's trials.

    Each rate is tried for `training.tune_steps`. With `halving` the same steps in all are spent by successive halving
    (Jamieson and Talwalkar 2016): every rate has few steps, the better half twice as many, and so on.
    """

    learning_rate: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]
    halving: bool = False

    @model_validator(mode="after")
    def _halves_of_several(self) -> Self:
        if self.halving and len(self.learning_rate) < 3:
            raise ValueError(f"halving needs three rates or more, got {self.learning_rate}")
        if len(set(self.learning_rate)) != len(self.learning_rate):
            raise ValueError(f"every rate once, got {self.learning_rate}")
        return self


class ArmSpec(BaseModel):
    """One candidate. Every key besides these four is a setting of the method, by peft's own name.

    `params` is the number of trainable parameters that the method's rank is solved for.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Setting]

    method: Text
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    tune: TuneSpec | None = None
    params: Annotated[int, Field(ge=1)] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The method's own settings."""
        return dict(self.model_extra or {})

    @property
    def trains(self) -> bool:
        return self.method != "none"

    @field_validator("params", mode="before")
    @classmethod
    def _with_unit(cls, value: Any) -> Any:
        """`2M`, `350k` and `2.5M` as numbers."""
        number = re.fullmatch(r"([0-9][0-9_]*\.?[0-9]*(?:e\+?[0-9]+)?) ?([kMB]?)", str(value).strip())
        if value is None:
            return None
        if isinstance(value, bool) or number is None:
            raise ValueError("is a number of trainable parameters, such as 2M, 350k or 2_000_000")
        count = float(number[1]) * UNITS[number[2]]
        if not math.isfinite(count):
            raise ValueError("is more parameters than any model has")
        return round(count)

    @model_validator(mode="after")
    def _one_rank(self) -> Self:
        if self.params is not None and RANK in self.settings:
            raise ValueError(f"give either `{RANK}`, or the `params` that it is to be solved for, not both")
        return self

    @model_validator(mode="after")
    def _learning_rate_where_it_trains(self) -> Self:
        if self.trains and self.learning_rate is None and self.tune is None:
            raise ValueError(
                f"method {self.method!r} needs a `learning_rate` (usual: 5.0e-5 for full, 1.0e-3 for lora), "
                "or `tune: {learning_rate: [...]}` to search for one"
            )
        if self.learning_rate is not None and self.tune is not None:
            raise ValueError("give either `learning_rate` or `tune: {learning_rate: [...]}`, not both")
        given = (self.learning_rate, self.tune, self.params)
        if not self.trains and (any(value is not None for value in given) or self.settings):
            raise ValueError("method 'none' is the original model and takes no settings")
        return self
