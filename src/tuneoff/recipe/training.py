"""The part `training` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tuneoff.recipe.spec import Spec, Text

SEARCH_PART = 4


class TrainingSpec(Spec):
    """How every arm that trains is trained: the same for all. Names and defaults follow transformers' arguments.

    The loss on the validation split is computed every `eval_steps` steps, or after each epoch, and at the end. `keep`
    says which weights are saved: those of the last step, or those whose validation loss is lowest. A training stops
    early after `early_stopping_patience` validations without a lower loss.
    """

    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    tune_steps: Annotated[int, Field(ge=1)] | None = None
    examples_per_step: Annotated[int, Field(ge=1)] = 8
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    engine: Literal["auto", "fast", "plain"] = "auto"
    lr_scheduler_type: Text = "linear"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    activation_checkpointing: bool = False
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    report_to: list[Text] = Field(default=[])
    eval_steps: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["last", "best"] = "last"
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None

    def search_steps(self, count: int) -> int:
        """Optimizer steps that a search takes for each of its learning rates, the same for every arm.

        `count` are the steps of an arm's training. A search takes a part of them where the recipe has no `tune_steps`.
        """
        return self.tune_steps or max(1, count // SEARCH_PART)

    @model_validator(mode="after")
    def _stopped_where_the_best_is_kept(self) -> Self:
        if self.early_stopping_patience is not None and self.keep != "best":
            raise ValueError("`early_stopping_patience` stops after the best weights: set `keep: best`, too")
        return self
