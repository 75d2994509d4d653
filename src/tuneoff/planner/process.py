"""What a process holds at most: its libraries, its tensors at their peak, and what the allocator keeps beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

# On the CPU glibc keeps freed blocks below 32 MiB for the next requests, beside those in use: this share of them.
SLACK = 0.20
# What a trial's process takes beyond its tensors, what comes with them, and what the planning process holds: less than
# nothing, perhaps since that one has read and tokenised the data.
OWN_BYTES = -81 * 2**20
# Not measured: no GPU was at hand. What a CUDA context and its kernels take of the GPU's memory, and the share of all
# tensors that torch's caching allocator reserves beyond them.
CUDA_CONTEXT_BYTES, CUDA_SLACK = 600 * 2**20, 0.1
# What comes with the tensors of a phase: what libraries load at its first step, objects, threads, data, and what oneDNN
# keeps of each kind of matrix product. `python bench/plan.py --fit` gave this, the slack and the bytes above, on models
# that its other figures are not judged by (docs/plan.md).
PROCESS_BYTES, KERNEL_BYTES = 133 * 2**20, 2**19
# The relative error that a predicted process peak is taken to have at most: that of the largest of 48 that were
# measured (docs/benchmarks.md). On CUDA it is not measured.
ERROR, CUDA_ERROR = 0.16, 0.2

LASTING = ("weights", "buffers", "optimizer", "process")  # of a step's components


def bytes_besides_tensors(device: torch.device, products: int) -> int:
    """What a process on `device` takes of its memory besides tensors, with so many kinds of matrix products."""
    return PROCESS_BYTES + KERNEL_BYTES * products if device.type == "cpu" else 0


@dataclass(frozen=True)
class Held:
    """Bytes of a phase at its peak, the libraries not counted.

    Attributes:
        fixed: What lasts (weights, the optimizer's state, sums of gradients), and large blocks, which the allocator
            gives back once freed.
        reused: Smaller blocks that come and go, beside which the allocator keeps freed ones.
    """

    fixed: float
    reused: float

    @classmethod
    def of(cls, components: Mapping[str, float], large: float) -> Held:
        """That of all components, of which so many bytes are in large blocks."""
        fixed = large + sum(components.get(name, 0) for name in LASTING)
        return cls(fixed, sum(components.values()) - fixed)

    @property
    def peak(self) -> int:
        """Bytes of what is alive."""
        return int(self.fixed + self.reused)


@dataclass(frozen=True)
class Process:
    """A process on a device, of whose memory it holds `libraries` (bytes) before it has a model."""

    device: torch.device
    libraries: int

    def peak(self, held: Held) -> int:
        """Bytes of the device's memory that the process holds at most in a phase, the allocator's slack included."""
        own = OWN_BYTES if self.device.type == "cpu" else 0
        return self.libraries + own + held.peak + self.slack(held)

    def slack(self, held: Held) -> int:
        """Bytes that the allocator holds in a phase beside what is alive."""
        return int(SLACK * held.reused if self.device.type == "cpu" else CUDA_SLACK * held.peak)

    def is_tight(self, needed: int, capacity: int) -> bool:
        """Whether what is needed and what there is differ by no more than a prediction's largest error."""
        return abs(capacity - needed) <= (ERROR if self.device.type == "cpu" else CUDA_ERROR) * capacity
