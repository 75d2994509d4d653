"""The memory of a training step on the largest batch: components ahead of the training, the peak in its first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tuneoff.measure import allocator
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


class StepProbe:
    """Measures the memory of a training's first step, which is its longest, with the optimizer's state there.

    `track` takes one step more, ahead of the training, under the tracker of components. Weights, gradients and random
    states are afterwards what they were, and the optimizer's state is there and zero, as the first update makes it.
    `begin` and `end` enclose the training's own first step, in which freed memory is given back at once.
    """

    def __init__(self, training: Training, meter: MemoryMeter) -> None:
        self._training, self._meter = training, meter
        self._tracked = PhaseMemory(peak=None, process_peak=None)

    def track(self) -> None:
        """Measure the components of the longest step, at a learning rate of 0."""
        training = self._training
        optimizer = training.optimizer
        rates = [group["lr"] for group in optimizer.param_groups]
        batches = [training.batch(part) for part in training.split(training.steps.examples(0))]
        allocator.tidy()
        with same_random_states():
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            try:
                self._tracked = measure_components(
                    self._tracked, training.engine.model, optimizer, lambda: single_step(training, batches)
                )
            finally:
                optimizer.zero_grad()
                _clear(optimizer)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
        allocator.quick()

    def begin(self) -> None:
        """Before the first step."""
        allocator.tidy()
        self._meter.start_phase()

    def end(self) -> PhaseMemory:
        """After it: the peak of the step, and its components. Memory is then freed as it is quickest."""
        measured = self._meter.end_phase()
        allocator.quick()
        reasons = [reason for reason in (measured.not_measured, self._tracked.not_measured) if reason]
        return measured.model_copy(
            update={
                "components": self._tracked.components,
                "components_own_peaks": self._tracked.components_own_peaks,
                "not_measured": "; ".join(reasons) or None,
            }
        )


@torch.no_grad()
def _clear(optimizer: torch.optim.Optimizer) -> None:
    """Zero the optimizer's state: moments and counts of steps."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if torch.is_tensor(value):
                value.zero_()
            else:
                state[name] = type(value)(0)
