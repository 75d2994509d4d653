"""A request to stop a child (SIGTERM): kept for the next safe point while training, obeyed at once elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 75  # the exit status of a child that stopped on request (EX_TEMPFAIL of sysexits.h)


class StoppedError(Exception):
    """The trial was asked to stop, and has saved where it was."""


class Stop:
    """Whether this process was asked to stop. `listen` makes it hear."""

    def __init__(self) -> None:
        self.asked = False
        self._can_wait = False

    def listen(self) -> None:
        """Take SIGTERM as the request. Ctrl-C is the parent's to handle."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask)

    @contextmanager
    def kept_for_safe_points(self) -> Iterator[None]:
        """While the block runs, a first request only sets `asked`; the block looks at it. A second ends at once."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked or not self._can_wait:
            os._exit(STOPPED)
        self.asked = True
