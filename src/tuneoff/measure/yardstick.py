"""How fast the machine is just now: the seconds of a fixed piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROWS, COLUMNS = 512, 1024
TIMES = 3


class Yardstick:
    """A product of matrices and a softmax, on all threads of this process: three times 3 to 4 ms on two cores.

    It holds 6 MiB, from before a trial's memory is measured. A virtual machine, or one that grows warm, changes its
    speed by a fifth for minutes at a time, and no counter says so. Arms that are trained one after the other are
    trained at different speeds; their seconds over this work's seconds at the time can be compared.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._known = device.type == "cpu"
        if not self._known:
            return
        self._values = torch.ones(ROWS, COLUMNS)
        self._square, self._product = torch.ones(ROWS, ROWS), torch.empty(ROWS, ROWS)
        self._softmax = torch.empty_like(self._values)
        self.seconds()  # what is loaded at the first time is loaded now

    def seconds(self) -> float | None:
        """What the work takes now, the median of three times; None on a device that is not the CPU."""
        if not self._known:
            return None
        import torch

        with torch.no_grad():
            product = _median_seconds(lambda: torch.mm(self._square, self._square, out=self._product))
            softmax = _median_seconds(lambda: torch.softmax(self._values, -1, out=self._softmax))
        return product + softmax


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
