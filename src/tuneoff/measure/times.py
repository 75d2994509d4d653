"""The seconds of each part of a phase, written as they come: of optimizer steps, and of batches of generation."""

from __future__ import annotations

import time
from pathlib import Path

from tuneoff.folder import write_whole
from tuneoff.measure.clock import Clock
from tuneoff.measure.load import LoadMeter
from tuneoff.measure.yardstick import Yardstick
from tuneoff.records import PartTime, read_times

SPAN = 1.0  # seconds: parts are gathered for so long, and share the load of their span
WARM_UP = 2  # parts of a process


class PartTimes:
    """Writes one JSON line a part, of `records.PartTime`.

    The work of the `yardstick` is done once a span, and counted to the phase "measure" of the `clock`.
    """

    def __init__(self, path: Path, meter: LoadMeter, yardstick: Yardstick, clock: Clock) -> None:
        self._path, self._meter, self._yardstick, self._clock = path, meter, yardstick, clock
        self._gathered: list[PartTime] = []
        self._before = meter.now()
        self._noted = 0

    def begin(self, done: int) -> None:
        """Keep the first `done` parts of an earlier attempt, which this one goes on from, and begin with the next."""
        kept = [line for line in read_times(self._path) if line.part <= done] if done else []
        write_whole(self._path, "".join(line.model_dump_json() + "\n" for line in kept))
        self._before = self._meter.now()

    def note(self, part: int, seconds: float) -> None:
        """One more part has ended."""
        self._noted += 1
        warm_up = self._noted <= WARM_UP
        self._gathered.append(PartTime(part=part, seconds=round(seconds, 6), others=None, warm_up=warm_up))
        if time.monotonic() - self._before.wall >= SPAN:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._gathered:
            return
        now = self._meter.now()
        load = self._meter.load(now - self._before)
        with self._clock.phase("measure"):
            yardstick = self._yardstick.seconds()
        known = {
            "others": load.others, "gpu_others": load.gpu_others, "throttled": load.throttled, "yardstick": yardstick,
        }  # fmt: skip
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(part.model_copy(update=known).model_dump_json() + "\n" for part in self._gathered)
        self._gathered, self._before = [], self._meter.now()
