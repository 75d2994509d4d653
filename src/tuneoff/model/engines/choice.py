"""Which engine computes which arm: one registry, fastest first, and the rule by which an arm gets its engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from tuneoff.errors import ModelError
from tuneoff.model.base import build_model, model_class
from tuneoff.model.depth import shallow
from tuneoff.model.engines.decoder import DecoderEngine
from tuneoff.model.engines.engine import Engine
from tuneoff.model.engines.plain import PlainEngine
from tuneoff.model.engines.t5 import T5Engine
from tuneoff.model.kernels.native import why_not_native
from tuneoff.model.methods import STEPS, adapt
from tuneoff.records import ChosenEngine

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from tuneoff.recipe.arm import ArmSpec
    from tuneoff.recipe.training import TrainingSpec

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (T5Engine, DecoderEngine, PlainEngine)}


def engine_for(name: str, model: Any, *, bf16: bool) -> Engine:
    """The engine `name` at work on `model`. `bf16` says whether training computes in bf16."""
    return ENGINES[name](model, bf16=bf16)


def choose_engines(
    config: PretrainedConfig, arms: Mapping[str, ArmSpec], training: TrainingSpec
) -> dict[str, ChosenEngine]:
    """The engine of every arm of a recipe, with the reason for it.

    `auto` takes the fastest engine that suits every arm that trains, so that their times are of the same program.
    `fast` takes the fastest for each arm by itself, and `plain` takes transformers and peft alone.
    """
    if training.engine == "plain":
        return dict.fromkeys(arms, ChosenEngine(name="plain", reason="as the recipe says"))
    checkpoints = training.activation_checkpointing
    objections = {name: _objections(config, arm, checkpoints=checkpoints) for name, arm in arms.items()}
    if training.engine == "fast":
        return {name: _fastest({name: found}, "the fastest for this arm") for name, found in objections.items()}
    trained = {name: found for name, found in objections.items() if arms[name].trains}
    return dict.fromkeys(arms, _fastest(trained or objections, "the fastest that all arms share"))


def _fastest(objections: Mapping[str, Mapping[str, str | None]], reason: str) -> ChosenEngine:
    """The first engine to which no arm objects. `objections` hold, by arm and engine, why the engine does not suit."""
    against = ""
    for name in ENGINES:
        found = [(arm, by_engine[name]) for arm, by_engine in objections.items() if by_engine[name] is not None]
        if not found:
            missing = why_not_native() if name != "plain" and not torch.cuda.is_available() else None
            slow = f"; slower than it could be, without compiled kernels: {missing}" if missing else ""
            return ChosenEngine(name=name, reason=against or reason + slow)
        arm, why = found[0]
        against = against or f"the engine {name} does not take arm {arm}: {why}"
    raise AssertionError("the plain engine takes every model")


def _objections(config: PretrainedConfig, arm: ArmSpec, *, checkpoints: bool) -> dict[str, str | None]:
    """By engine, why it does not suit the arm's model, or its activation checkpointing; None where it does."""
    try:
        model = _without_values(config, arm)
    except ModelError as error:  # the method needs values, or real tensors: told where the arm is rehearsed
        return {name: None if name == "plain" else str(error) for name in ENGINES}
    missing = "it has no activation checkpointing"
    return {
        name: engine.suits(model) or (missing if checkpoints and not engine.checkpoints else None)
        for name, engine in ENGINES.items()
    }


def _without_values(config: PretrainedConfig, arm: ArmSpec) -> Any:
    """The arm's model on the meta device or, where its method needs values, a shallow one on the CPU."""
    kind = model_class(config)
    try:
        with torch.device("meta"):
            return adapt(build_model(copy.deepcopy(config)), arm.method, arm.settings, kind, steps=STEPS)
    except ModelError:
        return adapt(build_model(shallow(config, 1)), arm.method, arm.settings, kind, steps=STEPS)
