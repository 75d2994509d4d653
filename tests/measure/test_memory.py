from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from tuneoff.measure.components import measure_components
from tuneoff.measure.memory import MemoryMeter
from tuneoff.records import PhaseMemory

MIB = 2**20


def two_phases() -> tuple[PhaseMemory, PhaseMemory]:
    """Of one that makes 200 MiB and frees them, and of one that makes 60 MiB."""
    meter = MemoryMeter(torch.device("cpu"))
    meter.start_phase()
    big = torch.ones(50 * MIB)
    del big
    first = meter.end_phase()
    meter.start_phase()
    small = torch.ones(15 * MIB)
    second = meter.end_phase()
    del small
    return first, second


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_a_phase_is_its_own() -> None:
    # In a process of its own, as a trial is: the suite's may give memory back at any time, other tests' garbage.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        first, second = fresh.submit(two_phases).result()
    assert first.peak is not None
    assert second.peak is not None
    assert 190 * MIB <= first.peak < 230 * MIB  # the process may have had a little free
    assert 50 * MIB <= second.peak < 90 * MIB
    assert second.process_peak is not None
    assert second.process_peak > second.peak


def test_components_of_a_step_with_frozen_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1000, 1000, bias=False), torch.nn.Linear(1000, 1000, bias=False))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(model[1].parameters())
    batch = torch.randn(64, 1000)

    def step() -> None:
        model(batch).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    got = measure_components(PhaseMemory(peak=1, process_peak=2), model, optimizer, step)
    assert got.not_measured is None
    assert got.components is not None
    assert got.components_own_peaks is not None
    assert got.components["weights"] == 2 * 4_000_000
    assert 2 * 4_000_000 <= got.components["optimizer"] < 2 * 4_000_000 + 1000
    assert got.components_own_peaks["gradients"] == 4_000_000
    assert not model[0].weight.requires_grad


def test_what_cannot_be_measured_says_why() -> None:
    def step() -> None:
        raise NotImplementedError("no storage\nmore")

    model = torch.nn.Linear(2, 2)
    got = measure_components(PhaseMemory(peak=1, process_peak=2), model, torch.optim.SGD(model.parameters()), step)
    assert (got.peak, got.components) == (1, None)
    assert got.not_measured == "components: NotImplementedError: no storage"
