"""The entry of a child process: `python -m tuneoff.runner.child RUN` with `prepare ARM,… [--force]`,
`try ARM SEED RATE` or `trial ARM SEED`.

Standard output carries events and nothing else; whatever libraries print goes to standard error,
which the parent keeps as the log. Exit statuses: 0 finished, 1 failed (told by an event), 2 the
user's mistake (told by an event), 75 stopped on request.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

from tuneoff.errors import DoesNotFitError, TuneoffError
from tuneoff.folder import RunFolder, write_json
from tuneoff.recipe import Recipe, Trial, read_recipe
from tuneoff.records import FailureKind, Plan, Prepared, Tuning
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import STOPPED, Stop, StoppedError

FINISHED, FAILED, MISTAKE = 0, 1, 2


def main(arguments: list[str], report: Reporter) -> int:
    _end_with_parent()
    stop = Stop()
    stop.listen()
    folder = RunFolder(Path(arguments[0]))
    try:
        recipe = read_recipe(folder.recipe).recipe
        if arguments[1] == "prepare":
            _prepare(recipe, folder, report, arms=arguments[2].split(","), force="--force" in arguments)
            return FINISHED
        recipe, trial = _as_planned(recipe, folder), Trial(arguments[2], int(arguments[3]))
        if arguments[1] == "try":
            return _try(recipe, folder, trial, float(arguments[4]), report, stop)
        return _carry_out(recipe, folder, trial, report, stop)
    except TuneoffError as error:
        traceback.print_exc()
        report.error(error)
        return MISTAKE
    except Exception as error:
        traceback.print_exc()
        report.failure(*_classify(error))
        return FAILED


def _prepare(recipe: Recipe, folder: RunFolder, report: Reporter, arms: list[str], force: bool) -> None:
    from tuneoff.measure.environment import describe_environment
    from tuneoff.model.device import pick_device
    from tuneoff.planner.inputs import read_inputs
    from tuneoff.planner.plan import make_plan
    from tuneoff.planner.refusal import refusals
    from tuneoff.runner.prepare import prepare

    inputs = read_inputs(recipe, folder.base, report)
    if not folder.plan.is_file():  # one that trials were begun by stands
        make_plan(recipe, inputs, report).write(folder.plan)
    plan = Plan.read(folder.plan)
    problems = refusals(plan.model_copy(update={"arms": [arm for arm in plan.arms if arm.arm in arms]}))
    if problems and not force:
        raise DoesNotFitError("\n".join([*problems, "To run it all the same: --force"]))
    prepare(recipe, folder, inputs)
    write_json(folder.environment, describe_environment(pick_device()))


def _as_planned(recipe: Recipe, folder: RunFolder) -> Recipe:
    """`recipe` with the plan's micro-batch where it leaves that open."""
    if recipe.training.micro_batch is not None or not folder.plan.is_file():
        return recipe
    training = recipe.training.model_copy(update={"micro_batch": Plan.read(folder.plan).micro_batch})
    return recipe.model_copy(update={"training": training})


def _carry_out(recipe: Recipe, folder: RunFolder, trial: Trial, report: Reporter, stop: Stop) -> int:
    from tuneoff.runner.trial import TrialRun

    own = folder.trial(trial.arm, trial.seed)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(own.trackers))
    rate = recipe.arms[trial.arm].learning_rate or 0.0
    if recipe.arms[trial.arm].tune is not None:
        rate = Tuning.read(folder.tuning(trial.arm)).chosen
    try:
        TrialRun(recipe, Prepared.read(folder.prepared), trial, own, report, stop, rate).run()
    except StoppedError:
        return STOPPED
    return FINISHED


def _try(recipe: Recipe, folder: RunFolder, trial: Trial, rate: float, report: Reporter, stop: Stop) -> int:
    from tuneoff.runner.trying import try_rate

    own = folder.rate(trial.arm, rate)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(own.trackers))
    try:
        try_rate(recipe, Prepared.read(folder.prepared), trial, rate, own, report, stop)
    except StoppedError:
        return STOPPED
    return FINISHED


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
    # Held until the very end: its closing tells the parent that we have ended, who then lets go of us.
    reporter = Reporter(_events_apart())
    status = main(sys.argv[1:], reporter)
    sys.stderr.flush()
    os._exit(status)  # at once: interpreter shutdown with worker threads can hang, and there is nothing left to do
