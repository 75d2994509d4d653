"""One NVIDIA GPU as the driver sees it (NVML): what this process holds of it, and what others make of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Gpu:
    """The GPU of a CUDA device. On a machine without NVML, or where the driver hides processes, it answers None.

    In a container the driver may know this process by another number than the container does. Then this process cannot
    be told from others, and both figures are None.
    """

    def __init__(self, device: torch.device) -> None:
        self._nvml: Any = None
        self._seen = 0  # microseconds: the time of the last sample of utilisation
        try:
            import pynvml
            import torch

            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self._nvml = pynvml
        except Exception:  # no driver, no library, or a device that it does not know: nothing can be asked
            return

    def process_bytes(self) -> int | None:
        """The bytes of the device that this process holds, its context included."""
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses") or []:
            if process.pid == os.getpid():
                held: int | None = process.usedGpuMemory
                return held
        return None

    def others_share(self) -> float | None:
        """The share of the GPU's time, 0…1, that other processes used since the last call."""
        running = self._ask("nvmlDeviceGetComputeRunningProcesses")
        if running is None or os.getpid() not in {process.pid for process in running}:
            return None
        if len(running) == 1:
            return 0.0
        samples = self._ask("nvmlDeviceGetProcessUtilization", self._seen)
        if samples is None:
            return None
        self._seen = max((sample.timeStamp for sample in samples), default=self._seen)
        used: dict[int, list[int]] = {}
        for sample in samples:
            if sample.pid != os.getpid():
                used.setdefault(sample.pid, []).append(sample.smUtil)
        return min(1.0, sum(sum(values) / len(values) for values in used.values()) / 100)

    def busy_share(self) -> float | None:
        """The share of the last second, 0…1, in which the GPU worked, for whichever process."""
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return rates.gpu / 100 if rates is not None else None

    def _ask(self, question: str, *arguments: Any) -> Any:
        """What NVML answers; None where it cannot."""
        if self._nvml is None:
            return None
        try:
            return getattr(self._nvml, question)(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
