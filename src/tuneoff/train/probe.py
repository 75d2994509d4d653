"""The memory of a training step, measured before the training: on the largest batch, and without a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tuneoff.measure.components import measure_components
from tuneoff.measure.memory import MemoryMeter
from tuneoff.records import PhaseMemory
from tuneoff.train.trainer import ArmTrainer


def single_step(trainer: ArmTrainer, optimizer: Any, batches: Sequence[Mapping[str, Any]]) -> None:
    """A step on some micro-batches: forward and backward of each, and one update (where there is an optimizer)."""
    for batch in batches:
        trainer.training_step(trainer.model_wrapped, dict(batch), num_items_in_batch=1)
    if optimizer is not None:
        optimizer.step()
    trainer.model.zero_grad()


def probe_step(trainer: ArmTrainer, meter: MemoryMeter) -> PhaseMemory:
    """Peak and components of the longest step, with the optimizer's state there.

    Three real steps at a learning rate of 0: one that makes the optimizer's state, one under the
    meter, one under the tracker of components. Weights, optimizer, gradients and random state are
    afterwards what they were. Before the training, since what libraries keep grows with it.
    """
    optimizer = trainer.optimizer.optimizer  # without accelerate's wrapper, which counts steps
    rates = [group["lr"] for group in optimizer.param_groups]
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    batches = [next(iter(trainer.get_train_dataloader()))]  # the longest comes first

    def step() -> None:
        single_step(trainer, optimizer, batches)

    for group in optimizer.param_groups:
        group["lr"] = 0.0
    try:
        step()
        meter.start_phase()
        step()
        return measure_components(meter.end_phase(), trainer.model, optimizer, step)
    finally:
        optimizer.state.clear()
        trainer.model.zero_grad()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        torch.set_rng_state(cpu_state)
        torch.cuda.set_rng_state_all(cuda_states)
