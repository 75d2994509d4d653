"""What other programs do on the machine meanwhile: their CPU time, preemptions, throttling, their use of the GPU."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.measure.gpu import Gpu
from tuneoff.records import MachineLoad

if TYPE_CHECKING:
    import torch

# The kernel counts CPU time in ticks of 10 ms or less: in a shorter span a tick too many would look like a program.
SHORTEST = 0.5  # seconds


@dataclass(frozen=True)
class Usage:
    """Sums over a span of time: seconds on the clock, CPU seconds, and counts.

    Attributes:
        wall: The seconds of the span.
        busy: CPU seconds that the CPUs of this process worked, whoever used them.
        own: Those of this process.
        available: CPU seconds that these CPUs have in the span.
        switches: Involuntary context switches of this process.
        throttled: Times that a CPU was throttled for its heat.
        gpu_others: Seconds of the GPU that others used.
    """

    wall: float = 0.0
    busy: float = 0.0
    own: float = 0.0
    available: float = 0.0
    switches: int = 0
    throttled: int = 0
    gpu_others: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class LoadMeter:
    """Measures spans of time of this process, which works on `device`."""

    def __init__(self, device: torch.device) -> None:
        self._cpus = own_cpus()
        self._throttles = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        self._gpu = Gpu(device) if device.type == "cuda" else None
        self._gpu_known = self._gpu is not None
        self._gpu_seconds, self._read_at = 0.0, time.monotonic()

    def now(self) -> Usage:
        """Sums since an arbitrary start: the difference of two is a span's."""
        import psutil

        wall = time.monotonic()
        cpus = psutil.cpu_times(percpu=True)
        chosen = [cpus[i] for i in self._cpus if i < len(cpus)]
        if self._gpu is not None:
            share = self._gpu.others_share()
            self._gpu_known = share is not None
            self._gpu_seconds += (share or 0.0) * (wall - self._read_at)
        self._read_at = wall
        return Usage(
            wall=wall,
            busy=sum(_working(times) for times in chosen),
            own=time.process_time(),
            available=wall * len(chosen),
            switches=_switches() or 0,
            throttled=sum(_number(path) for path in self._throttles),
            gpu_others=self._gpu_seconds,
        )

    def load(self, span: Usage) -> MachineLoad:
        """A span in shares of what the machine has. The shares of one too short to tell are None."""
        long = span.wall >= SHORTEST
        others = min(1.0, max(0.0, (span.busy - span.own) / span.available)) if long and span.available > 0 else None
        return MachineLoad(
            others=None if others is None else round(others, 4),
            switches=span.switches if _switches() is not None else None,
            throttled=span.throttled if self._throttles else None,
            gpu_others=round(span.gpu_others / span.wall, 4) if self._gpu_known and long else None,
        )


def own_cpus() -> list[int]:
    """The numbers of the CPUs that this process may use; all where the system does not tell."""
    import psutil

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on every system
        return list(process.cpu_affinity())
    return list(range(psutil.cpu_count() or 1))


def _switches() -> int | None:
    """Involuntary context switches of all threads of this process so far; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _working(times: object) -> float:
    """Seconds in which a CPU was not idle. What guests use is a part of user and nice already."""
    idle = ("idle", "iowait", "guest", "guest_nice")
    return sum(value for name, value in times._asdict().items() if name not in idle)  # type: ignore[attr-defined]


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
