"""A rehearsal of every arm on a small copy of the model: what a trial would fail at is found before any is trained.

The copy has random weights and, unless the model is small, few layers. It is loaded, adapted, trained for a few updates
on the longest examples, saved, loaded again and made to write, by the code that a trial runs, with a trial's checks.
"""

from __future__ import annotations

import copy
import gc
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from tuneoff.recipe.arm import ArmSpec
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChosenEngine
from tuneoff.runner.trying import try_steps
from tuneoff.train.checks import MOVING, TrialChecks
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps, count_steps, row_lengths

if TYPE_CHECKING:
    from datasets import Dataset

SMALL = 50_000_000  # parameters of a model that is rehearsed with all of its layers
BYTES = 20  # of a parameter: weights, gradients, optimizer and what loading takes
EXAMPLES, UPDATES = 4, 8
NEW_TOKENS = 3


@dataclass(frozen=True)
class Stage:
    """What all arms are rehearsed on: a small copy of the model in a folder, the longest examples and prompts.

    `whole` says whether the copy has all layers; `count` is the number of optimizer steps of a training, and
    `tune_count` that of a search for each learning rate.
    """

    recipe: Recipe
    inputs: Inputs
    precision: Precision
    base: Path
    whole: bool
    train: Dataset | None
    prompts: list[list[int]]
    count: int
    tune_count: int

    @property
    def bf16(self) -> bool:
        return self.precision.name == "bf16"


def rehearse(
    recipe: Recipe,
    inputs: Inputs,
    engines: Mapping[str, ChosenEngine],
    precision: Precision,
    tell: ProgressListener,
) -> tuple[list[Problem], list[str]]:
    """What would go wrong in a trial of each arm, a line each; and warnings, where nothing could be rehearsed.

    Nothing of a rehearsal is used again.
    """
    problems = []
    with tempfile.TemporaryDirectory(prefix="tuneoff-rehearsal-") as folder:
        stage = _set_stage(recipe, inputs, precision, Path(folder) / "base")
        if stage is None:
            return [], [
                "the arms were not rehearsed: even a copy of the model with one layer is too large for that here"
            ]
        for name, arm in recipe.arms.items():
            tell.phase(f"rehearse {name}")
            try:
                _rehearse_arm(stage, arm, engines[name].name, Path(folder) / name)
            except Exception as error:  # of the model, the method or a library: whatever a trial would die of
                if stage.whole or not isinstance(error, ModelError) or not _applies(inputs, arm):
                    problems.append(Problem(("arms", name), _told(error, stage)))
            gc.collect()  # the hooks of an optimizer make cycles, which hold a model
    return problems, []


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
    train, count, tune_count = None, 0, 0
    if any(arm.trains for arm in recipe.arms.values()):
        rows = load_tokens(inputs.tokens["train"])
        lengths = row_lengths(rows)
        train = rows.select(sorted(range(len(rows)), key=lambda i: sum(lengths[i]))[-EXAMPLES:])
        count = count_steps(len(rows), recipe.training)
        tune_count = recipe.training.search_steps(count)
    prompts = sorted(load_tokens(inputs.tokens[recipe.evaluation.split])["input_ids"], key=len)[-2:]
    return Stage(recipe, inputs, precision, base, whole, train, prompts, count, tune_count)


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
    search = stage.recipe.evaluation.search
    shortest = min(search.min_new_tokens, NEW_TOKENS)  # transformers warns of a text that cannot become so long
    generate(
        engine_for(engine, model, bf16=stage.bf16),
        inputs.tokenizer,
        stage.prompts,
        max_new_tokens=NEW_TOKENS,
        search=search.model_copy(update={"min_new_tokens": shortest}),
        batch_size=2,
        report=lambda done, total: None,
    )


def _train(stage: Stage, arm: ArmSpec, engine: str, folder: Path) -> tuple[TrialChecks, float]:
    """Train until the checks of the first updates have passed, and save. Returns the checks and the trained loss."""
    inputs, recipe = stage.inputs, stage.recipe
    assert stage.train is not None  # there is an arm that trains
    if arm.tune is not None:  # a schedule of the method's own must have room in a try, too
        least = try_steps(arm.tune, stage.tune_count, 1 if arm.tune.halving else None)
        adapt(_base(stage, arm), arm.method, arm.settings, inputs.model_class, least)
    set_seed(0)
    model = adapt(_base(stage, arm), arm.method, arm.settings, inputs.model_class, stage.count)
    start = folder / "start" if save_start(model, folder / "start") else None
    spec = recipe.training.model_copy(update={"micro_batch": 2, "warmup_ratio": 0.0, "report_to": []})
    steps = Steps(stage.train, None, 0, min(EXAMPLES, len(stage.train)), UPDATES)
    rate = max(arm.learning_rate or arm.tune.learning_rate[0], MOVING)  # type: ignore[union-attr]  # one of them is given
    training = Training(
        engine_for(engine, model, bf16=stage.bf16), inputs.tokenizer, steps, spec, rate, TrialFolder(folder), Clock()
    )
    checks = TrialChecks(training)
    checks.first_step()
    checks.watch()
    training.run(lambda _: None, lambda _done, _loss, rate: checks.after_update(rate), lambda: not checks.watching)
    training.round_weights()
    loss = checks.trained_loss()
    training.join_weights()
    checks.note_trained()
    save_whole(model, inputs.tokenizer, folder / "model", start)
    training.release()
    return checks, loss


def _base(stage: Stage, arm: ArmSpec) -> Any:
    """The copy as a training of the arm loads it."""
    return load_model(str(stage.base), None, stage.inputs.model_class, held_dtype(arm.method, stage.precision.dtype))


def _load(stage: Stage, arm: ArmSpec, saved: Path, dtype: torch.dtype) -> Any:
    if arm.method == "full":
        return load_model(str(saved), None, stage.inputs.model_class, dtype)
    model = load_model(str(stage.base), None, stage.inputs.model_class, dtype)
    return load_adapter(model, saved) if uses_peft(arm.method) else model
