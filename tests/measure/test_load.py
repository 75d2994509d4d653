"""What other programs do meanwhile: seen where there are some, and not made of this process's own work."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tuneoff.measure import load as module
from tuneoff.measure import times as times_module
from tuneoff.measure.clock import Clock
from tuneoff.measure.gpu import Gpu
from tuneoff.measure.load import LoadMeter, Usage
from tuneoff.measure.times import PartTimes
from tuneoff.measure.yardstick import Yardstick
from tuneoff.records import read_times

CPU = torch.device("cpu")


class Machine:
    """Two CPUs whose seconds are given; this process used `own` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.busy, self.own = 100.0, 0.0, 0.0
        times = type(psutil.cpu_times())
        rest = dict.fromkeys(times._fields, 0.0)
        monkeypatch.setattr(module, "own_cpus", lambda: [0, 1])
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "process_time", lambda: self.own)
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times(**{**rest, "user": self.busy / 2})] * 2)

    def goes_on(self, seconds: float, own: float, others: float) -> None:
        self.now, self.own, self.busy = self.now + seconds, self.own + own, self.busy + own + others


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)


def test_the_share_of_others_is_of_all_that_the_cpus_have(machine: Machine) -> None:
    meter = LoadMeter(CPU)
    start = meter.now()
    machine.goes_on(10.0, own=12.0, others=4.0)
    assert meter.load(meter.now() - start).others == pytest.approx(0.2)
    start = meter.now()
    machine.goes_on(10.0, own=20.0, others=0.0)
    assert meter.load(meter.now() - start).others == 0.0


def test_a_span_of_a_few_ticks_is_too_short_to_tell(machine: Machine) -> None:
    meter = LoadMeter(CPU)
    start = meter.now()
    machine.goes_on(0.1, own=0.1, others=0.02)
    assert meter.load(meter.now() - start).others is None
    assert meter.load(Usage()).others is None


def test_parts_have_the_load_of_their_span(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times_module.time, "monotonic", lambda: machine.now)
    clock = Clock()

    class Slowing(Yardstick):
        def seconds(self) -> float:
            machine.now += 0.02  # is nobody's work
            return 0.02

    times = PartTimes(tmp_path / "t.jsonl", LoadMeter(CPU), Slowing(CPU), clock)
    times.begin(0)
    for part in range(1, 5):
        machine.goes_on(0.6, own=1.2, others=0.0 if part < 3 else 0.6)
        times.note(part, 0.6)
    found = read_times(tmp_path / "t.jsonl")
    assert [(p.part, p.warm_up, p.disturbed) for p in found] == [
        (1, True, False), (2, True, False), (3, False, True), (4, False, True),
    ]  # fmt: skip
    assert found[3].others == pytest.approx(0.5, abs=1e-3)
    assert ({p.yardstick for p in found}, clock.seconds["measure"]) == ({0.02}, pytest.approx(0.04))
    again = PartTimes(tmp_path / "t.jsonl", LoadMeter(CPU), Yardstick(torch.device("meta")), clock)
    again.begin(2)  # from a checkpoint after two parts
    machine.goes_on(1.0, own=1.0, others=0.0)
    again.note(3, 1.0)
    found = read_times(tmp_path / "t.jsonl")
    assert [(p.part, p.seconds, p.yardstick) for p in found] == [(1, 0.6, 0.02), (2, 0.6, 0.02), (3, 1.0, None)]


def test_the_yardstick_is_a_few_milliseconds_and_leaves_no_trace() -> None:
    before = torch.random.get_rng_state()
    yardstick = Yardstick(CPU)
    assert 0 < (yardstick.seconds() or 0) < 1
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_line_that_was_cut_off_ends_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"part": 1, "seconds": 0.5, "others": null}\n{"part": 2, "sec')
    assert [p.part for p in read_times(path)] == [1]
    assert read_times(tmp_path / "none.jsonl") == []


def nvml(pids: list[int], used: dict[int, int]) -> Any:
    """The driver's library, as far as it is asked: processes that hold 2 GiB each, and how busy they keep the GPU."""
    library = types.ModuleType("pynvml")
    sample = [types.SimpleNamespace(pid=pid, smUtil=share, timeStamp=7) for pid, share in used.items()]
    running = [types.SimpleNamespace(pid=pid, usedGpuMemory=2 * 2**30) for pid in pids]
    library.__dict__.update(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: running,
        nvmlDeviceGetProcessUtilization=lambda handle, seen: sample,
    )
    return library


def test_a_gpu_tells_this_process_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 10)
    device = types.SimpleNamespace(uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    for pids, used, share, held in (
        ([10, 11], {10: 60, 11: 30}, 0.3, 2 * 2**30),
        ([10], {10: 90}, 0.0, 2 * 2**30),
        ([4711], {4711: 90}, None, None),  # in a container the driver's numbers are others
    ):
        monkeypatch.setitem(sys.modules, "pynvml", nvml(pids, used))
        gpu = Gpu(torch.device("cuda"))
        assert (gpu.others_share(), gpu.process_bytes()) == (share, held)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    without = Gpu(torch.device("cuda"))
    assert (without.others_share(), without.process_bytes()) == (None, None)
