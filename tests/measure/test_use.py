"""What a process makes of its device."""

from __future__ import annotations

import time

import pytest
import torch

from tuneoff.measure import use as module
from tuneoff.measure.use import UseMeter


def test_the_share_is_of_the_cpus_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "own_cpus", lambda: [0, 1])
    wall, own = 100.0, 5.0
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "process_time", lambda: own)
    meter = UseMeter(torch.device("cpu"))
    wall, own = 110.0, 20.0  # 15 of 2 × 10 seconds
    found = meter.read()
    assert (found.device, found.share) == ("CPU", 0.75)
    assert found.memory_bytes is not None and found.memory_bytes > 2**20
    wall, own = 120.0, 20.0
    assert meter.read().share == 0.0
    assert meter.read().share is None  # no time has passed
