"""The part `training` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tuneoff.recipe.spec import Spec, Text


class TrainingSpec(Spec):
    """How every arm that trains is trained: the same for all. Names and defaults follow transformers' arguments."""

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
