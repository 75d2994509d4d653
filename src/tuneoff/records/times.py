"""What each part of a phase took: every optimizer step of a training, every batch of a generation."""

from __future__ import annotations

import json
from pathlib import Path

from tuneoff.records.base import Record

BUSY = 0.05  # the share of CPU or GPU time above which other programs are taken to slow this one


class PartTime(Record):
    """One part of a phase: an optimizer step, or the batches of texts that a search has written together.

    Parts of the same numbers are the same work in all arms of a run, where their searches take as many batches at once.

    Attributes:
        part: The number of its step or, of several batches, of the last one, from 1.
        seconds: What it took, without saving, validating and measuring.
        others: The share of the CPU time of this process's CPUs that other programs took meanwhile, 0…1; None where it
            could not be measured.
        gpu_others: The same of the GPU's time.
        throttled: How often a CPU was throttled for its heat meanwhile; None where the system does not tell.
        yardstick: The seconds of a fixed piece of work at the end of about the second that it lies in, which tell how
            fast the machine was (`tuneoff.measure.yardstick`); None where it was not measured.
        warm_up: Whether it is one of the first parts of its process, in which libraries choose kernels and the
            allocator takes its first blocks.
    """

    part: int
    seconds: float
    others: float | None
    gpu_others: float | None = None
    throttled: int | None = None
    yardstick: float | None = None
    warm_up: bool = False

    @property
    def disturbed(self) -> bool:
        """Whether other programs or heat held it up, as far as is known."""
        return (self.others or 0.0) > BUSY or (self.gpu_others or 0.0) > BUSY or bool(self.throttled)


def read_times(path: Path) -> list[PartTime]:
    """The parts of a phase as far as they were written; a last line that was cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    parts = []
    for line in lines:
        try:
            parts.append(PartTime.model_validate(json.loads(line)))
        except ValueError:
            break
    return parts
