"""The memory of a training step, measured before the training: on the longest step, and without a trace."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.measure.components import measure_components
from tuneoff.measure.memory import MemoryMeter
from tuneoff.records import PhaseMemory
from tuneoff.train.loop import Batch, Training
from tuneoff.train.randomness import same_random_states


def single_step(training: Training, batches: Sequence[Batch], *, update: bool = True) -> None:
    """One optimizer step on given micro-batches: forward and backward passes and, unless told otherwise, the update."""
    training.backward(batches, tokens=1)
    if update:
        training.optimizer.step()
    training.optimizer.zero_grad()


def probe_step(training: Training, meter: MemoryMeter) -> PhaseMemory:
    """Peak and components of the longest step, with the optimizer's state there.

    It takes three real steps at a learning rate of 0: one that makes the optimizer's state, one under the meter, one
    under the tracker of components. Weights, optimizer, gradients and random state are afterwards what they were. It
    comes before the training, since what libraries keep grows with it.
    """
    optimizer = training.optimizer
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = [training.batch(part) for part in training.split(training.steps.examples(0))]  # the longest comes first

    def step() -> None:
        single_step(training, batches)

    with same_random_states():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        try:
            step()
            meter.start_phase()
            step()
            return measure_components(meter.end_phase(), training.engine.model, optimizer, step)
        finally:
            optimizer.state.clear()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
