"""Bytes that are alive at once: by hand, and beside torch's own tracker."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tuneoff.measure.allocator import QUICK_MMAP_BYTES
from tuneoff.measure.components import track
from tuneoff.planner.alive import Alive, lasting_bytes


def test_only_new_storages_count_and_only_while_they_live() -> None:
    before = torch.zeros(10_000)
    with Alive() as alive:
        a = torch.zeros(1000)
        a.view(10, 100).add_(1)  # no new bytes
        before.mul_(2)
        b = a.clone()
        del a, b
        c = torch.zeros(1500)
        d = c.reshape(3, 500).t().contiguous()  # a copy
        del c, d
    assert (alive.peak, alive.large) == (4 * 3000, 0)


def test_large_blocks_are_told_apart() -> None:
    with Alive() as alive:
        large = torch.empty(QUICK_MMAP_BYTES, dtype=torch.uint8)
        small = torch.empty(1000, dtype=torch.uint8)
        del large, small
        torch.empty(2000, dtype=torch.uint8)
    assert (alive.peak, alive.large) == (QUICK_MMAP_BYTES + 1000, QUICK_MMAP_BYTES)
    held = alive.held(7)
    assert (held.fixed, held.reused) == (QUICK_MMAP_BYTES + 7, 1000)


@pytest.mark.parametrize("trained", [True, False])
def test_it_agrees_with_torchs_own_tracker(trained: bool) -> None:
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 8))

    def step() -> None:
        with torch.set_grad_enabled(trained):
            loss = model(torch.zeros(512, 64)).sum()
            if trained:
                loss.backward()
        model.zero_grad()

    expected = sum(track(model, None, step).at_peak.values())
    with Alive() as alive:
        step()
    assert alive.peak + lasting_bytes(model, None) == pytest.approx(expected, rel=0.02)


def test_what_lasts_counts_tied_weights_once() -> None:
    model = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)])
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    assert lasting_bytes(model, optimizer) == 4 * 64
    model[0].weight.grad = torch.zeros(8, 8)
    optimizer.step()
    assert lasting_bytes(model, optimizer) == 4 * 64 * 3 + 4  # two moments and the step
