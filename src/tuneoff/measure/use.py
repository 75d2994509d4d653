"""How much of its device a process uses while it works: for those who watch it, not for the figures of a report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.measure.gpu import Gpu
from tuneoff.measure.load import own_cpus

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DeviceUse:
    """What a process makes of its device.

    Attributes:
        device: CPU or GPU.
        share: The part of its time, 0…1, that the device worked: CPUs for this process, a GPU for whoever uses it.
            None where it is not known.
        memory_bytes: What the process holds: of a GPU, by PyTorch's allocator.
    """

    device: str
    share: float | None
    memory_bytes: int | None


class UseMeter:
    """Reads the use of `device` by this process since the last reading."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._gpu = Gpu(device) if self._cuda else None
        self._device = device
        self._cpus = len(own_cpus())
        self._wall, self._own = time.monotonic(), time.process_time()

    def read(self) -> DeviceUse:
        if self._gpu is not None:
            import torch

            return DeviceUse("GPU", self._gpu.busy_share(), torch.cuda.memory_reserved(self._device))
        import psutil

        wall, own = time.monotonic(), time.process_time()
        span, used = wall - self._wall, own - self._own
        self._wall, self._own = wall, own
        share = min(1.0, used / (span * self._cpus)) if span > 0 else None
        return DeviceUse("CPU", share, psutil.Process().memory_info().rss)
