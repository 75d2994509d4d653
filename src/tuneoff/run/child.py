"""The entry of a child process: `python -m tuneoff.run.child RUN prepare` or `… RUN trial ARM SEED`.

Standard output carries events and nothing else; whatever libraries print goes to standard error,
which the parent keeps as the log. Exit statuses: 0 finished, 1 failed (told by an event), 2 the
user's mistake (told by an event), 75 stopped on request.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import TextIO

from tuneoff.errors import TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Trial, read_recipe
from tuneoff.records import FailureKind, Prepared
from tuneoff.run.events import Reporter

FINISHED, FAILED, MISTAKE, STOPPED = 0, 1, 2, 75


class Stop:
    """A request to stop (SIGTERM): kept for the next safe point while training, obeyed at once elsewhere."""

    def __init__(self) -> None:
        self.asked = False
        self.can_wait = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked or not self.can_wait:
            os._exit(STOPPED)
        self.asked = True

    def at_safe_point(self) -> bool:
        """Whether to save and stop now. Training asks after each step, which shows that it can wait."""
        self.can_wait = True
        return self.asked


def main(arguments: list[str]) -> int:
    report = Reporter(_events_apart())
    _end_with_parent()
    folder = RunFolder(Path(arguments[0]))
    stop = Stop()
    try:
        recipe = read_recipe(folder.recipe).recipe
        if arguments[1] == "prepare":
            from tuneoff.folder import write_json
            from tuneoff.measure.environment import describe_environment
            from tuneoff.model.device import pick_device
            from tuneoff.run.prepare import prepare

            prepare(recipe, folder, report)
            write_json(folder.environment, describe_environment(pick_device()))
            return FINISHED
        from tuneoff.run.trial import StoppedError, TrialRun

        trial = Trial(arguments[2], int(arguments[3]))
        run = TrialRun(
            recipe,
            Prepared.read(folder.prepared),
            trial,
            folder.trial(trial.arm, trial.seed),
            report,
            stop.at_safe_point,
        )
        try:
            run.run()
        except StoppedError:
            return STOPPED
        return FINISHED
    except TuneoffError as error:
        traceback.print_exc()
        report.error(error)
        return MISTAKE
    except Exception as error:
        traceback.print_exc()
        report.failure(*_classify(error))
        return FAILED


def _classify(error: Exception) -> tuple[FailureKind, str]:
    text = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    memory = ("OutOfMemoryError", "MemoryError")
    if type(error).__name__ in memory or "can't allocate memory" in message or "Cannot allocate memory" in message:
        return "out of memory", message
    if type(error).__name__ == "NotANumberError":
        return "not a number", text[0]
    return "exception", message


def _events_apart() -> TextIO:
    """A stream on the real standard output; `print` and libraries go to standard error from here on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _end_with_parent() -> None:
    """End when the parent does, however it ends: it holds the other end of our standard input."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.stdout.flush()
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # at once: interpreter shutdown with worker threads can hang, and there is nothing left to do
