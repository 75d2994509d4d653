"""Time by phase, on the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Adds up seconds by phase. A phase inside another pauses the outer: saving is not training.

    `synchronize` is called before each reading, so that an accelerator's queued work is counted
    where it was asked for.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block to `name`."""
        self._turn()
        self._open.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def read(self, name: str) -> float:
        """Seconds of `name` up to now, also while it runs."""
        self._turn()
        return self.seconds.get(name, 0.0)

    def _turn(self) -> None:
        self._synchronize()
        now = time.monotonic()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
