"""What a child process tells its parent while it works: one JSON object a line, on the child's standard output."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from tuneoff.errors import Problem, RecipeError, TuneoffError, error_classes
from tuneoff.measure.use import DeviceUse, UseMeter
from tuneoff.records import FailureKind

INTERVAL = 0.2  # seconds between two reports of progress


@dataclass(frozen=True)
class Event:
    """A phase that begins, progress in it, an error of `tuneoff.errors` by its class, or how the child died.

    Progress has the `tokens` that have gone through the model in this phase, where they are counted, and the use of the
    device as `DeviceUse` has it.
    """

    kind: Literal["phase", "progress", "error", "failure"]
    text: str = ""
    failure: FailureKind = "exception"
    done: int = 0
    total: int = 0
    loss: float | None = None
    tokens: int | None = None
    device: str = ""
    device_share: float | None = None
    memory_bytes: int | None = None
    error: str = ""
    problems: tuple[tuple[tuple[str, ...], str], ...] = ()


class Reporter:
    """The child's side: writes events, and not more progress than eyes can follow."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0
        self._use: UseMeter | None = None

    def measure(self, use: UseMeter) -> None:
        """Progress tells the use of the device from now on."""
        self._use = use

    def phase(self, name: str) -> None:
        self._send(Event("phase", name))

    def progress(self, done: int, total: int, loss: float | None = None, tokens: int | None = None) -> None:
        now = time.monotonic()
        if done >= total or now - self._last >= INTERVAL:
            self._last = now
            use = self._use.read() if self._use is not None else DeviceUse("", None, None)
            self._send(
                Event(
                    "progress",
                    done=done,
                    total=total,
                    loss=loss,
                    tokens=tokens,
                    device=use.device,
                    device_share=use.share,
                    memory_bytes=use.memory_bytes,
                )
            )

    def error(self, error: TuneoffError) -> None:
        problems = error.problems if isinstance(error, RecipeError) else ()
        found = tuple((problem.path, problem.message) for problem in problems)
        self._send(Event("error", str(error), error=type(error).__name__, problems=found))

    def failure(self, kind: FailureKind, message: str) -> None:
        self._send(Event("failure", message, failure=kind))

    def _send(self, event: Event) -> None:
        self._stream.write(json.dumps(asdict(event)) + "\n")
        self._stream.flush()


def parse_event(line: str) -> Event | None:
    """The event of one line; None for a line that is none (a library that prints)."""
    try:
        values: dict[str, Any] = json.loads(line)
        return Event(**{**values, "problems": tuple((tuple(path), text) for path, text in values["problems"])})
    except (ValueError, TypeError, KeyError):
        return None


def as_error(event: Event) -> TuneoffError:
    """The error that a child gave up with, of the same class and with the same data, to be raised in the parent."""
    found = error_classes().get(event.error, TuneoffError)
    if issubclass(found, RecipeError):
        return found(Problem(path, message) for path, message in event.problems)
    return found(event.text)
