"""How fast this machine works: three figures fitted to real steps, kept by machine, or measured roughly."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import torch
from pydantic import TypeAdapter

from tuneoff.cache import cache_folder
from tuneoff.errors import CacheError, WriteError
from tuneoff.folder import write_whole
from tuneoff.measure.environment import describe_environment
from tuneoff.model.device import synchronize
from tuneoff.planner.work import Work
from tuneoff.records import Range, Record

FLOOR = 0.15  # of the interval of a calibrated prediction, either way
ELSEWHERE = 0.5  # of one calibrated on another model
ROUGH = 1.5  # of one that knows products and copies alone
COUNTED = 2  # raised where work is counted otherwise than before: speeds fitted to the old count are of no use then
EFFICIENCY = 0.5  # of a large product's speed, that a step's products are taken to reach


class Speed(Record):
    """Seconds of a FLOP, of a byte moved and of a call. Predictions lie between value / (1 + spread) and × that."""

    flop: float
    byte: float
    call: float
    spread: float
    source: str

    def seconds(self, work: Work) -> Range:
        value = float(np.dot(work.parts(), (self.flop, self.byte, self.call)))
        return Range(value=value, low=value / (1 + self.spread), high=value * (1 + self.spread))


def fit(samples: Sequence[tuple[Work, float]], source: str) -> Speed:
    """The figures, none below zero, whose relative errors on `samples` (work, seconds) are least squares."""
    seconds = np.array([measured for _, measured in samples])
    matrix = np.array([work.parts() for work, _ in samples]) / seconds[:, None]
    scale = matrix.max(0).clip(min=1e-30)
    best: tuple[float, np.ndarray] | None = None
    for count in range(1, 4):
        for chosen in itertools.combinations(range(3), count):  # least squares without negatives: few enough to try
            part, *_ = np.linalg.lstsq(matrix[:, chosen] / scale[list(chosen)], np.ones(len(seconds)), rcond=None)
            values = np.zeros(3)
            values[list(chosen)] = part / scale[list(chosen)]
            error = float(((matrix @ values - 1) ** 2).sum())
            if (values >= 0).all() and (best is None or error < best[0]):
                best = error, values
    assert best is not None  # one figure alone is never negative
    residual = float(np.abs(matrix @ best[1] - 1).max())
    flop, byte, call = best[1].tolist()
    return Speed(flop=flop, byte=byte, call=call, spread=max(FLOOR, 2 * residual), source=source)


@cache
def rough(dtype: torch.dtype, device: torch.device) -> Speed:
    """From a product of 1024 × 1024 matrices and a copy of 64 MiB, in a second."""
    a, b = torch.randn(2, 1024, 1024, device=device).to(dtype)
    product = _median(lambda: a @ b, device)
    source, to = torch.zeros(2, 2**24, device=device)
    copy = _median(lambda: to.copy_(source), device)
    return Speed(
        flop=product / (2 * 1024**3) / EFFICIENCY,
        byte=copy / (2 * source.nbytes),
        call=10e-6,
        spread=ROUGH,
        source="estimated from one matmul and one copy timed here, within a factor of 2.5; `tuneoff plan --calibrate` "
        "narrows it",
    )


def _median(work: Callable[[], object], device: torch.device) -> float:
    work()
    taken = []
    for _ in range(5):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return median(taken)


class Speeds:
    """The calibrated speeds of this machine: in the cache, by what was calibrated."""

    def __init__(self, device: torch.device) -> None:
        machine = describe_environment(device)
        known = [machine[key] for key in ("device", "device_name", "threads", "settings")]
        self._machine = hashlib.sha256(json.dumps([known, torch.__version__, COUNTED]).encode()).hexdigest()[:12]
        try:
            self._path: Path | None = cache_folder("speeds") / "speeds.json"
        except CacheError:
            self._path = None  # nothing is known of earlier, nor kept

    def find(self, kind: str, model: str) -> Speed | None:
        """That of a kind of step (engine, precision, method) on a model, or else on another model."""
        own = self._read().get(f"{self._machine} {kind}", {})
        if model in own:
            return own[model]
        if own:
            speed = list(own.values())[-1]
            return speed.model_copy(
                update={"spread": max(ELSEWHERE, speed.spread), "source": f"{speed.source}, of another model"}
            )
        return None

    def keep(self, kind: str, model: str, speed: Speed) -> None:
        every = self._read()
        every.setdefault(f"{self._machine} {kind}", {})[model] = speed
        if self._path is not None:
            with suppress(WriteError):
                write_whole(self._path, _EVERY.dump_json(every, indent=2).decode() + "\n")

    def _read(self) -> dict[str, dict[str, Speed]]:
        try:
            return _EVERY.validate_json(self._path.read_bytes()) if self._path is not None else {}
        except (OSError, ValueError):  # none yet, or damaged: they can be measured again
            return {}


_EVERY = TypeAdapter(dict[str, dict[str, Speed]])
