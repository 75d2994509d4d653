"""Which forward pass trains a model: the fast path where all of it is known there, plain transformers elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tuneoff.recipe.schema import TrainingSpec

Engine = Literal["fast", "plain"]


@dataclass(frozen=True)
class PickedEngine:
    """The engine in use, and why."""

    name: Engine
    reason: str


def pick_engine(training: TrainingSpec, model: Any) -> PickedEngine:
    """The engine that the recipe asks for, or `plain` where the fast path does not know the model."""
    from tuneoff.model.fast.native import native
    from tuneoff.model.fast.t5 import FastT5

    if training.engine == "plain":
        return PickedEngine("plain", "as the recipe says")
    if training.activation_checkpointing:
        return PickedEngine("plain", "activation checkpointing is transformers' own")
    if not FastT5.suits(model):
        return PickedEngine("plain", "the fast path knows the T5 family, and of peft's methods LoRA")
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and native() is None:
        return PickedEngine("fast", "without a C++ compiler: slower than with one")
    return PickedEngine("fast", "a T5 with gated GELU")
