"""Texts that wait to be written: one bounded queue an arm, and one thread that writes them in batches."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from tuneoff.use.writer import Writer, Written

log = logging.getLogger("uvicorn.error")


class FullError(Exception):
    """Too many texts wait already; `retry_seconds` is about when there may be room."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(retry_seconds)
        self.retry_seconds = retry_seconds


class ClosedError(Exception):
    """The server is being shut down, and this text had not been begun."""


class FailedError(Exception):
    """The batch could not be written; says why in a line."""


@dataclass(frozen=True)
class Finding:
    """One text, the seconds that its batch took to write and how many texts that had, and the seconds waited before."""

    written: Written
    seconds: float
    batch: int
    waited_seconds: float


@dataclass(frozen=True)
class _Wanted:
    row: Mapping[str, str]
    future: Future[Finding] = field(default_factory=Future)
    asked: float = field(default_factory=time.monotonic)


class Batches:
    """Writes what is asked for: texts of one arm in batches of at most `batch_size`, the arms taking turns.

    `writer` gives what writes for an arm, and is called by the one thread that computes. A future that is cancelled
    before its batch begins is not computed. What would make more than
    `limit` texts wait is not taken, unless none does.
    """

    def __init__(self, writer: Callable[[str], Writer], arms: Sequence[str], batch_size: int, limit: int) -> None:
        self._writer, self._size, self._limit = writer, batch_size, limit
        self._waiting: dict[str, deque[_Wanted]] = {arm: deque() for arm in arms}  # the next arm to write stands first
        self._change = threading.Condition()
        self._closed = False
        self._took = 0.0  # seconds of the last batch
        self._thread = threading.Thread(target=self._work, name="batches")

    def start(self) -> None:
        self._thread.start()

    def ask(self, arms: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[Future[Finding]]:
        """What will be written: for each of `arms`, for each of `rows`. Raises FullError or ClosedError."""
        wanted = {arm: [_Wanted(row) for row in rows] for arm in arms}
        with self._change:
            if self._closed:
                raise ClosedError
            waiting = self._count()
            if waiting and waiting + len(arms) * len(rows) > self._limit:
                raise FullError(max(1, math.ceil(self._took * waiting / self._size)))
            for arm, own in wanted.items():
                self._waiting[arm] += own
            self._change.notify()
        return [one.future for own in wanted.values() for one in own]

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        with self._change:
            return self._count()

    def close(self) -> None:
        """Refuse what waits; the batch at work is still written."""
        with self._change:
            self._closed = True
            refused = [one for queue in self._waiting.values() for one in queue]
            self._waiting.clear()
            self._change.notify()
        for one in refused:
            if one.future.set_running_or_notify_cancel():
                one.future.set_exception(ClosedError())

    def join(self) -> None:
        """Wait for the batch at work."""
        self._thread.join()

    def _count(self) -> int:
        return sum(not one.future.cancelled() for queue in self._waiting.values() for one in queue)

    def _next(self) -> tuple[str, list[_Wanted]] | None:
        """The next batch, when there is one; None where there will be no more."""
        with self._change:
            while True:
                if self._closed:
                    return None
                arm = next((arm for arm, queue in self._waiting.items() if queue), None)
                if arm is None:
                    self._change.wait()
                    continue
                queue = self._waiting[arm]
                batch: list[_Wanted] = []
                while queue and len(batch) < self._size:
                    one = queue.popleft()
                    if one.future.set_running_or_notify_cancel():
                        batch.append(one)
                self._waiting[arm] = self._waiting.pop(arm)  # its next turn comes after all others'
                if batch:
                    return arm, batch

    def _work(self) -> None:
        while found := self._next():
            arm, batch = found
            try:
                self._write(arm, batch)
            except Exception as error:  # these texts are lost; the next may do
                log.exception("%s: a batch of %d texts could not be written", arm, len(batch))
                for one in batch:
                    one.future.set_exception(FailedError(f"{arm} could not write: {type(error).__name__}: {error}"))

    def _write(self, arm: str, batch: list[_Wanted]) -> None:
        writer = self._writer(arm)
        began = time.monotonic()
        written = writer.write([one.row for one in batch])
        self._took = time.monotonic() - began
        for one, text in zip(batch, written, strict=True):
            one.future.set_result(Finding(text, self._took, len(batch), began - one.asked))
