"""The entry of a child process: `python -m tuneoff.runner.child RUN` with `prepare ARM,… [--force]`,
`try ARM SEED RATE [RUNG]`, `train ARM SEED`, `evaluate ARM SEED` or `diagnose`.

`prepare` reads recipe.yaml where the run is new, and writes resolved.json; all else reads resolved.json and no other.
Standard output carries events and nothing else; whatever libraries print goes to standard error,
which the parent keeps as the log. Exit statuses: 0 finished, 1 failed (told by an event), 2 the
user's mistake (told by an event), 75 stopped on request.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from tuneoff.errors import (
    CheckFailedError,
    DamagedFileError,
    DoesNotFitError,
    RecipeError,
    TuneoffError,
    WriteError,
    disk_trouble,
)
from tuneoff.folder import RunFolder, write_json
from tuneoff.recipe import Trial, read_recipe, resolved_recipe, with_ranks
from tuneoff.records import FailureKind, Plan, Resolved
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import STOPPED, Stop, StoppedError

FINISHED, FAILED, MISTAKE = 0, 1, 2


def main(arguments: list[str], report: Reporter) -> int:
    stop = Stop()
    stop.listen()
    folder = RunFolder(Path(arguments[0]))
    try:
        return _carry_out(arguments[1], arguments[2:], folder, report, stop)
    except (CheckFailedError, WriteError) as error:  # no mistakes of the user's
        report.failure(*_classify(error))
        _log_traceback()
        return FAILED
    except TuneoffError as error:
        report.error(error)
        _log_traceback()
        return MISTAKE
    except Exception as error:
        report.failure(*_classify(error))
        _log_traceback()
        return FAILED


def _carry_out(work: str, arguments: list[str], folder: RunFolder, report: Reporter, stop: Stop) -> int:
    if work == "prepare":
        _prepare(folder, report, arms=arguments[0].split(","), force="--force" in arguments)
        return FINISHED
    if work == "diagnose":
        from tuneoff.runner.diagnosing import RunDiagnosis

        RunDiagnosis(folder, report).carry_out()
        return FINISHED
    trial = Trial(arguments[0], int(arguments[1]))
    if work == "try":
        rung = int(arguments[3]) if len(arguments) > 3 else None
        return _try(folder, trial, float(arguments[2]), rung, report, stop)
    return _carry_out_part(work, folder, trial, report, stop)


def _log_traceback() -> None:
    """Into the log, whose disk may be full: what happened has been told before."""
    with suppress(OSError):
        traceback.print_exc()


def _prepare(folder: RunFolder, report: Reporter, arms: list[str], force: bool) -> None:
    """Resolve the run and make its plan; where it was resolved before, check that it is still the same run.

    Raises the mistakes of the recipe, DoesNotFitError for those of `arms` that do not fit unless `force`, and
    RecipeChangedError.
    """
    from tuneoff.data.inputs import read_inputs
    from tuneoff.data.retained import retained_texts
    from tuneoff.measure.environment import describe_environment
    from tuneoff.model.device import pick_device, pick_precision, settled_precision
    from tuneoff.model.engines import choose_engines
    from tuneoff.planner.plan import make_plan
    from tuneoff.planner.refusal import refusals
    from tuneoff.recipe.places import with_absolute_paths
    from tuneoff.runner.recheck import pins_of, recheck
    from tuneoff.runner.rehearsal import rehearse
    from tuneoff.runner.resolve import resolve

    before = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
    if before is None:
        recipe, pins = with_absolute_paths(read_recipe(folder.recipe).recipe, folder.path), None
    else:
        recipe, pins = resolved_recipe(before), pins_of(before)
    if recipe.diagnose is not None:
        retained_texts(recipe.evaluation.retain)
    inputs = read_inputs(recipe, folder.base, report, pins)
    if before is not None:
        settled_precision(before.precision, before.precision_reason, pick_device())
        recheck(folder, before, inputs, report)
    solved = with_ranks(recipe, inputs.ranks)
    engines = before.engines if before else choose_engines(inputs.config, solved.arms, recipe.training)
    plan = _plan(folder)
    if plan is None:
        plan = make_plan(solved, inputs, engines, report)
        plan.write(folder.plan)
    refused = refusals(plan.model_copy(update={"arms": [arm for arm in plan.arms if arm.arm in arms]}))
    if refused and not force:
        raise DoesNotFitError("\n".join([*refused, "To run it all the same: --force"]))
    if before is None:  # after the plan, which counts what this process holds before it has trained anything
        precision = pick_precision(recipe.training.precision, pick_device())
        problems, warnings = rehearse(solved, inputs, engines, precision, report)
        if problems:
            raise RecipeError(problems)
        inputs = replace(inputs, warnings=[*inputs.warnings, *warnings])
        resolve(recipe, folder, inputs, report, engines, plan.micro_batch)
    write_json(folder.environment, describe_environment(pick_device()))


def _plan(folder: RunFolder) -> Plan | None:
    """The plan that was made before; None where there is none that can be read."""
    try:
        return Plan.read(folder.plan)
    except DamagedFileError:
        return None


def _carry_out_part(part: str, folder: RunFolder, trial: Trial, report: Reporter, stop: Stop) -> int:
    """Carry out the part of a trial that this process is for: `train` or `evaluate`."""
    from tuneoff.runner.evaluation import TrialEvaluation
    from tuneoff.runner.training import TrialTraining

    own = folder.trial(trial.arm, trial.seed)
    process = TrialTraining if part == "train" else TrialEvaluation
    try:
        process(Resolved.read(folder.resolved), trial, own, report, stop).run()
    except StoppedError:
        return STOPPED
    return FINISHED


def _try(folder: RunFolder, trial: Trial, rate: float, rung: int | None, report: Reporter, stop: Stop) -> int:
    from tuneoff.runner.trying import try_rate

    own = folder.rate(trial.arm, rate, rung)
    try:
        try_rate(Resolved.read(folder.resolved), trial, rate, own, report, stop, rung)
    except StoppedError:
        return STOPPED
    return FINISHED


def _classify(error: Exception) -> tuple[FailureKind, str]:
    if isinstance(error, CheckFailedError | WriteError):
        return "check" if isinstance(error, CheckFailedError) else "disk", " ".join(str(error).split())
    text = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    memory = ("OutOfMemoryError", "MemoryError")
    if type(error).__name__ in memory or "can't allocate memory" in message or "Cannot allocate memory" in message:
        return "out of memory", message
    if disk_trouble(error) is not None:
        return "disk", message
    if type(error).__name__ == "NotANumberError":
        return "not a number", text[0]
    return "exception", message


def _events_apart() -> TextIO:
    """A stream on the real standard output; `print` and libraries go to standard error from here on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    sys.stdout.flush()
    # Held until the very end: its closing tells the parent that we have ended, who then lets go of us.
    reporter = Reporter(_events_apart())
    status = main(sys.argv[1:], reporter)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)  # at once: interpreter shutdown with worker threads can hang, and there is nothing left to do
