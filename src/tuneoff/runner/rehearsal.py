"""A rehearsal of every arm on a small copy of the model: what a trial would fail at is found before any is trained.

The copy has random weights and, unless the model is small, few layers. It is loaded, adapted, trained for a few updates
on the longest examples, saved, loaded again and made to write, by the code that a trial runs, with a trial's checks.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import set_seed

from tuneoff.data.inputs import Inputs
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.generate import generate
from tuneoff.errors import CheckFailedError, ModelError, Problem, TuneoffError, first_line
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, load_model
from tuneoff.model.depth import shallow
from tuneoff.model.device import Precision
from tuneoff.model.engines import ENGINES, engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.model.methods import STEPS, adapt, held_dtype, uses_peft
from tuneoff.model.saved import load_adapter, save_start, save_whole
from tuneoff.progress import ProgressListener
from tuneoff.recipe.schema import ArmSpec, Recipe
from tuneoff.records import ChosenEngine
from tuneoff.train.checks import TrialChecks
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps, count_steps, row_lengths

SMALL = 50_000_000  # parameters of a model that is rehearsed with all of its layers
BYTES = 20  # of a parameter: weights, gradients, optimizer and what loading takes
EXAMPLES, UPDATES = 4, 8
NEW_TOKENS = 3


@dataclass(frozen=True)
class Stage:
    """What all arms are rehearsed on: the recipe, its inputs, and a small copy of the model in a folder."""

    recipe: Recipe
    inputs: Inputs
    precision: Precision
    base: Path
    whole: bool

    @property
    def bf16(self) -> bool:
        return self.precision.name == "bf16"


def rehearse(
    recipe: Recipe,
    inputs: Inputs,
    engines: Mapping[str, ChosenEngine],
    precision: Precision,
    tell: ProgressListener,
) -> list[Problem]:
    """What would go wrong in a trial of each arm, a line each. Nothing of a rehearsal is used again."""
    problems = []
    with tempfile.TemporaryDirectory(prefix="tuneoff-rehearsal-") as folder:
        stage = _set_stage(recipe, inputs, precision, Path(folder) / "base")
        if stage is None:
            return []
        for name, arm in recipe.arms.items():
            tell.phase(f"rehearse {name}")
            try:
                _rehearse_arm(stage, arm, engines[name].name, Path(folder) / name)
            except Exception as error:  # of the model, the method or a library: whatever a trial would die of
                if stage.whole or not isinstance(error, ModelError) or not _applies(inputs, arm):
                    problems.append(Problem(("arms", name), _told(error, stage)))
    return problems


def _applies(inputs: Inputs, arm: ArmSpec) -> bool:
    """Whether a method that does not apply to a copy with few layers applies to the model: it may name its layers."""
    try:
        with torch.device("meta"):
            adapt(build_model(copy.deepcopy(inputs.config)), arm.method, arm.settings, inputs.model_class, STEPS)
    except ModelError:
        return False
    return True


def _told(error: Exception, stage: Stage) -> str:
    """What the user is told of what ended a rehearsal, in one line."""
    if isinstance(error, TuneoffError) and not isinstance(error, CheckFailedError):
        return str(error)
    said = str(error) if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {first_line(error)}"
    return f"would fail, as a rehearsal on a copy of the model {'' if stage.whole else 'with few layers '}did: {said}"


def _set_stage(recipe: Recipe, inputs: Inputs, precision: Precision, base: Path) -> Stage | None:
    """Build the small copy. None where even that is too large for this machine's free memory."""
    config, whole = inputs.config, True
    if _size(config) > SMALL:
        config, whole = shallow(config, 1), False
    if BYTES * _size(config) > psutil.virtual_memory().available / 2:
        return None
    save_whole(build_model(copy.deepcopy(config)), inputs.tokenizer, base)
    return Stage(recipe, inputs, precision, base, whole)


def _size(config: Any) -> int:
    with torch.device("meta"):
        return count_parameters(build_model(copy.deepcopy(config))).total


def _rehearse_arm(stage: Stage, arm: ArmSpec, engine: str, folder: Path) -> None:
    inputs, dtype = stage.inputs, stage.precision.dtype
    saved = folder / "model"
    if arm.trains:
        checks, loss = _train(stage, arm, engine, folder)
        held = dtype if ENGINES[engine].computes_in_weights_dtype else held_dtype(arm.method, dtype)
        checks.reloaded(loss, engine_for(engine, _load(stage, arm, saved, held), bf16=stage.bf16))
    model = merged_for_generation(_load(stage, arm, saved, dtype), engine)
    prompts = load_tokens(inputs.tokens[stage.recipe.evaluation.split])["input_ids"]
    generate(
        engine_for(engine, model, bf16=stage.bf16),
        inputs.tokenizer,
        sorted(prompts, key=len)[-2:],
        max_new_tokens=NEW_TOKENS,
        num_beams=stage.recipe.evaluation.num_beams,
        batch_size=2,
        report=lambda done, total: None,
    )


def _train(stage: Stage, arm: ArmSpec, engine: str, folder: Path) -> tuple[TrialChecks, float]:
    """Train until the checks of the first updates have passed, and save. Returns the checks and the trained loss."""
    inputs, recipe = stage.inputs, stage.recipe
    train = load_tokens(inputs.tokens["train"])
    count = count_steps(len(train), recipe.training)
    lengths = row_lengths(train)
    longest = sorted(range(len(train)), key=lambda i: sum(lengths[i]))[-EXAMPLES:]
    set_seed(0)
    model = load_model(str(stage.base), None, inputs.model_class, held_dtype(arm.method, stage.precision.dtype))
    model = adapt(model, arm.method, arm.settings, inputs.model_class, count)
    start = folder / "start" if save_start(model, folder / "start") else None
    spec = recipe.training.model_copy(update={"micro_batch": 1, "warmup_ratio": 0.0, "report_to": []})
    steps = Steps(train.select(longest), None, 0, min(2, len(longest)), UPDATES)
    rate = arm.learning_rate or arm.tune.learning_rate[0]  # type: ignore[union-attr]  # a recipe gives one or the other
    training = Training(
        engine_for(engine, model, bf16=stage.bf16), inputs.tokenizer, steps, spec, rate, TrialFolder(folder), Clock()
    )
    checks = TrialChecks(training)
    checks.first_step()
    checks.watch()
    training.run(lambda _: None, lambda _done, _loss, rate: checks.after_update(rate), lambda: not checks.watching)
    loss = checks.trained_loss()
    training.join_weights()
    checks.note_trained()
    save_whole(model, inputs.tokenizer, folder / "model", start)
    return checks, loss


def _load(stage: Stage, arm: ArmSpec, saved: Path, dtype: torch.dtype) -> Any:
    if arm.method == "full":
        return load_model(str(saved), None, stage.inputs.model_class, dtype)
    model = load_model(str(stage.base), None, stage.inputs.model_class, dtype)
    return load_adapter(model, saved) if uses_peft(arm.method) else model
