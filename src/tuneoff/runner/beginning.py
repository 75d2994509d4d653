"""What a trial and a try share: a model made ready to be trained on the work that is the same for every arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase, set_seed

from tuneoff.data.tokens import load_tokens
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import load_model
from tuneoff.model.device import Precision
from tuneoff.model.engine import PickedEngine, pick_engine
from tuneoff.model.methods import adapt, held_dtype
from tuneoff.recipe import Recipe, Trial
from tuneoff.records import Parameters, Prepared
from tuneoff.train.loop import Training, Work


@dataclass(frozen=True)
class Begun:
    """A training that can run, and what is known of it before it does."""

    training: Training
    model: Any
    work: Work
    parameters: Parameters
    engine: PickedEngine


def load_work(recipe: Recipe, prepared: Prepared, seed: int, steps: int) -> Work:
    """The examples of `steps` optimizer steps, in the order that all arms share."""
    validation = prepared.tokens.get("validation") if recipe.evaluation.split != "validation" else None
    return Work(
        train=load_tokens(prepared.tokens["train"]),
        validation=load_tokens(validation) if validation else None,
        seed=seed,
        examples_per_step=recipe.training.examples_per_step,
        steps=steps,
    )


def begin(
    recipe: Recipe,
    prepared: Prepared,
    trial: Trial,
    work: Work,
    learning_rate: float,
    *,
    tokenizer: PreTrainedTokenizerBase,
    precision: Precision,
    folder: TrialFolder,
    clock: Clock,
) -> Begun:
    """Load the original model, adapt it to the arm's method, and set up its training."""
    arm = recipe.arms[trial.arm]
    with clock.phase("load"):
        dtype = held_dtype(arm.method, precision.dtype)
        model = load_model(prepared.model_path, prepared.model_revision, prepared.model_class, dtype)
        set_seed(trial.seed)
        model = adapt(model, arm.method, arm.settings, prepared.model_class, work.steps)
        engine = pick_engine(recipe.training, model)
    training = Training(
        model,
        tokenizer,
        work,
        recipe.training,
        learning_rate=learning_rate,
        bf16=precision.name == "bf16",
        engine=engine.name,
        folder=folder,
        clock=clock,
    )
    return Begun(training, model, work, count_parameters(model), engine)
