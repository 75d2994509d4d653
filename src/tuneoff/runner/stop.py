"""A request to stop a child: kept for the next safe point while training, obeyed at once elsewhere.

The parent asks with a byte on the child's standard input, which no library and no other program sends; a second byte
is the demand to end at once, and its end means that the parent is gone. SIGTERM is a request, too, however often it
comes: systemd, a container or a cluster sends it to every process of a service, the parent and the child alike.
"""

from __future__ import annotations

import os
import signal
import threading
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
        """Hear the parent and SIGTERM. Ctrl-C is the parent's to handle."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._hear)
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def kept_for_safe_points(self) -> Iterator[None]:
        """While the block runs, a request only sets `asked`; the block looks at it."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False

    def _watch(self) -> None:
        if os.read(0, 1):
            self._ask()
            os.read(0, 1)  # a second request, or the end of the parent
        os._exit(STOPPED)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._ask()

    def _ask(self) -> None:
        if not self._can_wait:
            os._exit(STOPPED)
        self.asked = True
