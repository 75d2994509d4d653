"""The part `evaluation` of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tuneoff.recipe.spec import Spec, Text


class KeepSpec(Spec):
    """A margin of non-inferiority in points, as the judged metric is shown: `points` may be lost, whatever full has."""

    points: Annotated[float, Field(gt=0)]


class SearchSpec(Spec):
    """How texts are searched for, by transformers' names; never by sampling."""

    num_beams: Annotated[int, Field(ge=1)] = 1
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0  # an exponent: its powers stay finite numbers
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _penalty_of_beams(self) -> Self:
        if self.num_beams == 1 and self.length_penalty != 1:
            raise ValueError("`length_penalty` weighs beams against each other: give `num_beams` above 1, too")
        return self

    @property
    def changed(self) -> dict[str, float]:
        """What is not as in plain greedy search."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}


class EvaluationSpec(Spec):
    """What is generated, and how it is scored.

    The verdict is given by the first of `metrics`. `keep` is the share of full's score that is to be kept, or what may
    be lost in points. `modules` is the folder in which the modules of a user's own metrics are looked for: that of the
    recipe, if it is not given. `retain` is a file of texts that the model should go on to know, in the place of those
    that ship: rows with a `text`, or with an `input` and its `target`.
    """

    split: Literal["validation", "test"] = "test"
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    search: SearchSpec = SearchSpec()
    batch_size: Annotated[int, Field(ge=1)] = 32
    metrics: Annotated[list[Text], Field(min_length=1)] = Field(default=["rouge1", "rouge2", "rougeL"])
    keep: Annotated[float, Field(gt=0, lt=1)] | KeepSpec = 0.97
    modules: Text | None = None
    retain: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _beams_of_older_runs(cls, values: Any) -> Any:
        """Runs and recipes that are older than `search` have its `num_beams` beside it."""
        if not isinstance(values, dict) or "num_beams" not in values or "search" in values:
            return values
        return {**{k: v for k, v in values.items() if k != "num_beams"}, "search": {"num_beams": values["num_beams"]}}

    @model_validator(mode="after")
    def _room_for_the_shortest(self) -> Self:
        if self.search.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"`search.min_new_tokens` is {self.search.min_new_tokens}, and `max_new_tokens` {self.max_new_tokens}: "
                "no text can have so many"
            )
        return self

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[str]) -> list[str]:
        if len(set(metrics)) != len(metrics):
            raise ValueError("every metric once")
        return metrics
