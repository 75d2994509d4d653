"""Real steps of an arm on a shallow model of the recipe's own widths: what a machine's speed is fitted to."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from tuneoff.measure import allocator
from tuneoff.model.base import build_model
from tuneoff.model.device import Precision, pick_device, synchronize
from tuneoff.model.methods import adapt, held_dtype
from tuneoff.planner.depth import shallow
from tuneoff.planner.inputs import Inputs
from tuneoff.planner.speed import Speed, fit
from tuneoff.planner.training import FakeTraining, Micros, trainer_for_steps
from tuneoff.planner.work import Work
from tuneoff.recipe.schema import ArmSpec, TrainingSpec
from tuneoff.train.loop import Work as Examples
from tuneoff.train.probe import single_step

DEPTHS = (1, 3)  # what grows with depth, and what does not
REPEATS = 3


def kind_of_step(engine: str, precision: Precision, few: bool) -> str:
    """What a speed holds for: steps of this engine and precision, with weight gradients for all or for a few."""
    return f"{engine} {precision.name} {'few' if few else 'all'}"


def calibrate(
    arm: ArmSpec,
    inputs: Inputs,
    examples: Examples,
    spec: TrainingSpec,
    precision: Precision,
    steps: Sequence[Micros],
    progress: Callable[[int, int], None],
) -> Speed:
    """The speed that explains real steps of `arm` (`steps` give their micro-batches), each timed a few times."""
    samples: list[tuple[Work, float]] = []
    for depth in DEPTHS:
        small = replace(inputs, config=shallow(inputs.config, depth))
        fake = FakeTraining(arm, small, examples, spec, precision)
        measured = _measure(arm, small, examples, spec, precision, steps)
        for micros, seconds in zip(steps, measured, strict=True):
            samples.append((sum((fake.work(micro) for micro in micros), fake.updating), seconds))
        progress(len(samples), len(DEPTHS) * len(steps))
    count = REPEATS * len(samples)
    return fit(samples, f"{count} real steps here on models of {' and '.join(map(str, DEPTHS))} layers")


def _measure(
    arm: ArmSpec,
    inputs: Inputs,
    examples: Examples,
    spec: TrainingSpec,
    precision: Precision,
    steps: Sequence[Micros],
) -> list[float]:
    """Median seconds of each step, of random weights."""
    device = pick_device()
    model = build_model(copy.deepcopy(inputs.config)).to(held_dtype(arm.method, precision.dtype))
    model = adapt(model, arm.method, dict(arm.settings), inputs.model_class, examples.steps)
    trainer = trainer_for_steps(model, inputs, examples, spec, precision)
    allocator.quick()
    medians = []
    for micros in steps:
        batches = [trainer.data_collator([examples.train[i] for i in chosen]) for chosen in micros]
        taken = []
        for _ in range(1 + REPEATS):
            synchronize(device)
            began = time.perf_counter()
            single_step(trainer, trainer.optimizer, batches)
            synchronize(device)
            taken.append(time.perf_counter() - began)
        medians.append(median(taken[1:]))
    return medians
