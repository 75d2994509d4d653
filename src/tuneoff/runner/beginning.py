"""What a trial and a try of a learning rate share: a model ready to be trained on the work that all arms share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, set_seed

from tuneoff.data.tokens import load_tokens
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import load_model
from tuneoff.model.device import Precision
from tuneoff.model.engines import engine_for
from tuneoff.model.methods import adapt, held_dtype
from tuneoff.model.saved import save_start
from tuneoff.recipe import Trial, resolved_recipe
from tuneoff.records import Parameters, Resolved
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps


@dataclass(frozen=True)
class ReadyTraining:
    """A training that can run, its adapted model with its parameters, and where its adapter's start was saved."""

    training: Training
    model: Any
    parameters: Parameters
    start: Path | None


def load_steps(resolved: Resolved, seed: int, count: int) -> Steps:
    """`count` optimizer steps on the run's training data, in the order that all arms share."""
    recipe = resolved_recipe(resolved)
    validation = resolved.tokens.get("validation") if recipe.evaluation.split != "validation" else None
    return Steps(
        train=load_tokens(resolved.tokens["train"]),
        validation=load_tokens(validation) if validation else None,
        seed=seed,
        examples_per_step=recipe.training.examples_per_step,
        count=count,
    )


def make_ready(
    resolved: Resolved,
    trial: Trial,
    steps: Steps,
    learning_rate: float,
    *,
    tokenizer: PreTrainedTokenizerBase,
    precision: Precision,
    folder: TrialFolder,
    clock: Clock,
) -> ReadyTraining:
    """Load the original model, adapt it to the arm's method, and set up its training. Raises ModelError."""
    recipe = resolved_recipe(resolved)
    arm = recipe.arms[trial.arm]
    with clock.phase("load"):
        dtype = held_dtype(arm.method, precision.dtype)
        model = load_model(resolved.model_path, resolved.model_revision, resolved.model_class, dtype)
        set_seed(trial.seed)
        model = adapt(model, arm.method, arm.settings, resolved.model_class, steps.count)
        start = folder.start if save_start(model, folder.start) else None
        engine = engine_for(resolved.engines[trial.arm].name, model, bf16=precision.name == "bf16")
        spec = recipe.training.model_copy(update={"micro_batch": resolved.micro_batch})
        training = Training(engine, tokenizer, steps, spec, learning_rate, folder, clock, resolved.origin)
    return ReadyTraining(training, model, count_parameters(model), start)
