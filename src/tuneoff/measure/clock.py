"""Time by phase, on the monotonic clock, and what other programs did on the machine meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuneoff.measure.load import LoadMeter, Usage
from tuneoff.records import MachineLoad


class Clock:
    """Adds up seconds by phase. A phase inside another pauses the outer: saving is not training.

    `synchronize` is called before each reading, so that an accelerator's queued work is counted where it was asked for.
    With a `meter`, the machine's load is added up by phase, too.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None, meter: LoadMeter | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize
        self._meter = meter
        self._usage: dict[str, Usage] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._used = Usage()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block to `name`."""
        self._turn()
        self._turn_load()
        self._open.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._turn()
            self._turn_load()
            self._open.pop()

    def read(self, name: str) -> float:
        """Seconds of `name` up to now, also while it runs."""
        self._turn()
        return self.seconds.get(name, 0.0)

    def loads(self) -> dict[str, MachineLoad]:
        """What other programs did in each phase that has ended."""
        meter = self._meter
        return {name: meter.load(usage) for name, usage in self._usage.items()} if meter is not None else {}

    def _turn(self) -> None:
        self._synchronize()
        now = time.monotonic()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _turn_load(self) -> None:
        if self._meter is None:
            return
        now = self._meter.now()
        if self._open:
            name = self._open[-1]
            self._usage[name] = self._usage.get(name, Usage()) + (now - self._used)
        self._used = now
