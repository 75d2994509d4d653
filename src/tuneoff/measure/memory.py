"""The peak of memory in a phase, as the system (CPU) or the allocator (CUDA) measured it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.measure.gpu import Gpu
from tuneoff.records import PhaseMemory

if TYPE_CHECKING:
    import torch


class MemoryMeter:
    """Measures the peak of each phase of one process that works on one device.

    Make it before the model is loaded: a CPU phase's `peak` is over the process's size at that time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        _load_libraries()
        self._gpu = Gpu(device) if device.type == "cuda" else None
        self._start = _status("VmRSS")
        self._resettable = True
        self._largest = 0

    def start_phase(self) -> None:
        """Forget earlier peaks."""
        self._note_largest()
        try:
            # Not ru_maxrss: a child inherits its parent's, and nothing resets it.
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._resettable = False
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def end_phase(self) -> PhaseMemory:
        """The peak since `start_phase`, in bytes."""
        self._note_largest()
        high_water = _status("VmHWM") if self._resettable else None
        if self._gpu is not None:
            import torch

            return PhaseMemory(
                peak=torch.cuda.max_memory_allocated(self._device),
                process_peak=high_water,
                reserved_peak=torch.cuda.max_memory_reserved(self._device),
                device_bytes=self._gpu.process_bytes(),
            )
        if high_water is None or self._start is None:
            reason = "this system does not report a process's peak (/proc/self/status, /proc/self/clear_refs)"
            return PhaseMemory(peak=None, process_peak=None, not_measured=reason)
        return PhaseMemory(peak=max(0, high_water - self._start), process_peak=high_water)

    def process_peak(self) -> int | None:
        """The most that the process has held so far: of the device on CUDA, else of the machine, in bytes.

        On CUDA it is what NVML says, and where that is not known, what the allocator reserved: the context, some
        hundred MiB, is then left out.
        """
        self._note_largest()
        return self._largest or None

    def _note_largest(self) -> None:
        if self._gpu is not None:
            import torch

            held = self._gpu.process_bytes() or torch.cuda.max_memory_reserved(self._device)
        else:
            held = _status("VmHWM") or 0
        self._largest = max(self._largest, held)


def _load_libraries() -> None:
    """Have torch load what it loads at its first products and gradients: no trial is to be charged for that."""
    import torch

    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(2, 8, 8, dtype=dtype, requires_grad=True)
        (x @ x).sum().backward()
        (x[0] @ x[0]).sum().backward()


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status; None where there is none."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
