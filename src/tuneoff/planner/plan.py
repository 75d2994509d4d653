"""A recipe and its inputs → a plan: every arm's memory and time, what fits where, and the micro-batch to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.data.tokens import load_tokens
from tuneoff.errors import Problem, RecipeError, TuneoffError
from tuneoff.model.device import pick_device, pick_precision
from tuneoff.model.engines import choose_engines
from tuneoff.model.methods import check_method
from tuneoff.planner.arm import ArmPlanner
from tuneoff.planner.batches import Batches
from tuneoff.planner.diagnosis import diagnosis_seconds
from tuneoff.planner.fit import Device, parse_device, this_machine
from tuneoff.planner.predictor import Setting
from tuneoff.planner.process import CUDA_CONTEXT_BYTES, Process
from tuneoff.planner.speed import Speeds
from tuneoff.planner.training import PlannedWork
from tuneoff.progress import ProgressListener
from tuneoff.recipe import with_ranks
from tuneoff.recipe.arm import RANK, ArmSpec
from tuneoff.recipe.schema import Recipe
from tuneoff.recipe.sweep import arm_name
from tuneoff.records import ChosenEngine, Plan
from tuneoff.train.steps import Steps, count_steps


def plan_recipe(
    recipe: Recipe,
    tell: ProgressListener,
    *,
    devices: Sequence[str] = (),
    sweep: str | None = None,
    calibrate: bool = False,
) -> Plan:
    """The plan of a recipe that has no run yet: `devices` as `16GB`, `sweep` as `r=4,8,16`. Raises TuneoffError."""
    sizes = [parse_device(text) for text in devices]
    if sweep is not None:
        recipe = recipe.model_copy(update={"arms": sweep_arms(recipe.arms, sweep)})
    inputs = read_inputs(recipe, None, tell)
    recipe = with_ranks(recipe, inputs.ranks)
    engines = choose_engines(inputs.config, recipe.arms, recipe.training)
    return make_plan(recipe, inputs, engines, tell, sizes, calibrate)


def make_plan(
    recipe: Recipe,
    inputs: Inputs,
    engines: Mapping[str, ChosenEngine],
    tell: ProgressListener,
    devices: Sequence[Device] = (),
    calibrate: bool = False,
) -> Plan:
    """Predict every arm of `recipe` on this machine and on `devices`.

    The micro-batch is the recipe's, or the largest with which every arm that fits this machine at all does: the same
    for all, since their memory is compared.
    """
    device, here = pick_device(), this_machine()
    precision = pick_precision(recipe.training.precision, device)
    steps = _steps(recipe, inputs)
    setting = Setting(
        recipe=recipe,
        inputs=inputs,
        steps=steps,
        batches=Batches(steps),
        device=device,
        precision=precision,
        process=Process(device, psutil.Process().memory_info().rss if device.type == "cpu" else CUDA_CONTEXT_BYTES),
        speeds=Speeds(device),
        calibrate=calibrate,
        tell=tell,
    )
    planners = [
        ArmPlanner(name, PlannedWork(arm, recipe.training, engines[name]), setting) for name, arm in recipe.arms.items()
    ]
    tell.phase("plan")
    micro_batch = _common(planners, here, recipe)
    arms = []
    for planner in planners:
        tell.phase(f"plan {planner.name}")
        arms.append(planner.plan(micro_batch, [here, *devices]))
    return Plan(
        device=here.name,
        precision=f"{precision.name}: {precision.reason}",
        libraries=setting.process.libraries,
        micro_batch=micro_batch,
        steps=steps.count,
        arms=arms,
        diagnosis=diagnosis_seconds(recipe, inputs, device),
    )


def sweep_arms(arms: Mapping[str, ArmSpec], text: str) -> dict[str, ArmSpec]:
    """`r=4,8,16` → every arm whose method has that setting, once for each value; the others as they are.

    Raises RecipeError where no arm has it, or a value does not suit.
    """
    key, separator, values = text.partition("=")
    key = key.strip()
    if not separator or not key or not all(value.strip() for value in values.split(",")):
        raise TuneoffError(f"--sweep takes a setting and its values, such as r=4,8,16, got {text!r}")
    swept: dict[str, ArmSpec] = {}
    problems: list[Problem] = []
    for name, arm in arms.items():
        variants = {}
        for value in values.split(","):
            number = _number(value.strip())
            changed = arm.model_copy(update={key: number, **({"params": None} if key == RANK else {})})
            wrong = check_method(name, arm.method, changed.settings)
            problems += wrong if key in arm.settings else []
            if not wrong:
                variants[arm_name(name, {key: number})] = changed
        swept |= variants or {name: arm}
    if problems:
        raise RecipeError(problems)
    if list(swept) == list(arms):
        raise TuneoffError(f"--sweep {key}: no arm has a method with that setting")
    return swept


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _steps(recipe: Recipe, inputs: Inputs) -> Steps:
    """What the first seed trains on."""
    train = load_tokens(inputs.tokens["train"]) if "train" in inputs.tokens else None
    validation = inputs.tokens.get("validation") if recipe.evaluation.split != "validation" else None
    return Steps(
        train=train,
        validation=load_tokens(validation) if validation else None,
        seed=recipe.seeds[0],
        examples_per_step=recipe.training.examples_per_step,
        count=count_steps(len(train), recipe.training) if train is not None else 0,
    )


def _common(planners: Sequence[ArmPlanner], here: Device, recipe: Recipe) -> int:
    """The largest micro-batch that all arms share which fit here; where it cannot be predicted, a whole step."""
    whole = recipe.training.micro_batch or recipe.training.examples_per_step
    found = []
    for planner in planners:
        try:
            size = planner.largest(here.capacity)
        except Exception:  # told in the arm's own plan
            continue
        if size is not None and planner.trains:
            found.append(size)
    return min(found, default=whole)
