"""The work of a computation, counted by hand."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from tuneoff.planner.alive import Alive
from tuneoff.planner.fake import FakeWorld
from tuneoff.planner.work import CountWork

CPU = torch.device("cpu")


def test_real_and_fake_steps_have_the_same_work() -> None:
    """That fake tensors are asked for their device, at most calls, is no work: it moves no bytes."""

    def step(x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> None:
        (x @ v.requires_grad_()).tanh().matmul(w.requires_grad_()).sum().backward()

    real = {"x": torch.zeros(8, 3, 6), "v": torch.zeros(6, 4), "w": torch.zeros(4, 2)}
    world = FakeWorld(CPU)
    counted = []
    for values, entered in ((real, nullcontext()), (world.batch(real), world.entered([]))):
        with entered, CountWork() as counter, Alive() as alive:
            step(**values)
        counted.append((counter.done, len(alive.products), alive.peak))
    assert counted[0] == counted[1]
    # The second product has three in all, forwards and backwards; the first has two, since its inputs have no gradient.
    assert counted[0][0].flops == 2 * 24 * (2 * 6 * 4 + 3 * 4 * 2)
