"""Real steps of an arm on a shallow model of the recipe's own widths: what a machine's speed is fitted to."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from tuneoff.data.inputs import Inputs
from tuneoff.measure import allocator
from tuneoff.model.base import build_model
from tuneoff.model.depth import shallow
from tuneoff.model.device import Precision, pick_device, synchronize
from tuneoff.model.engines import engine_for
from tuneoff.model.methods import adapt, held_dtype
from tuneoff.planner.batches import Micros
from tuneoff.planner.speed import Speed, fit
from tuneoff.planner.training import FakeTraining, PlannedWork, training_for_steps
from tuneoff.planner.work import Work
from tuneoff.train.probe import single_step
from tuneoff.train.steps import Steps

DEPTHS = (1, 3)  # what grows with depth, and what does not
REPEATS = 3


def kind_of_step(engine: str, precision: Precision, few: bool) -> str:
    """What a speed holds for: steps of this engine and precision, with weight gradients for all or for a few."""
    return f"{engine} {precision.name} {'few' if few else 'all'}"


def calibrate(
    arm: PlannedWork,
    inputs: Inputs,
    steps: Steps,
    precision: Precision,
    timed: Sequence[Micros],
    progress: Callable[[int, int], None],
) -> Speed:
    """The speed that explains real steps of `arm` (`timed` gives their micro-batches), each timed a few times."""
    samples: list[tuple[Work, float]] = []
    for depth in DEPTHS:
        small = replace(inputs, config=shallow(inputs.config, depth))
        fake = FakeTraining(arm, small, steps, precision, pick_device())
        measured = _measure(arm, small, steps, precision, timed)
        for micros, seconds in zip(timed, measured, strict=True):
            samples.append((sum((fake.work(micro) for micro in micros), fake.updating), seconds))
        progress(len(samples), len(DEPTHS) * len(timed))
    count = REPEATS * len(samples)
    return fit(samples, f"{count} real steps here on models of {' and '.join(map(str, DEPTHS))} layers")


def _measure(
    arm: PlannedWork, inputs: Inputs, steps: Steps, precision: Precision, timed: Sequence[Micros]
) -> list[float]:
    """Median seconds of each step, of random weights."""
    device, method = pick_device(), arm.spec.method
    model = build_model(copy.deepcopy(inputs.config)).to(held_dtype(method, precision.dtype))
    model = adapt(model, method, arm.spec.settings, inputs.model_class, steps.count)
    engine = engine_for(arm.engine.name, model, bf16=precision.name == "bf16")
    training = training_for_steps(engine, inputs, steps, arm.training, split=any(len(micros) > 1 for micros in timed))
    allocator.quick()
    medians = []
    for micros in timed:
        batches = [training.batch(chosen) for chosen in micros]
        taken = []
        for _ in range(1 + REPEATS):
            synchronize(device)
            began = time.perf_counter()
            single_step(training, batches)
            synchronize(device)
            taken.append(time.perf_counter() - began)
        medians.append(median(taken[1:]))
    return medians
