"""A recipe carried out: claim the folder, prepare once, then every trial that is not finished, one at a time."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

from tuneoff.data.early import require_early
from tuneoff.errors import (
    DamagedFileError,
    InterruptedRunError,
    PrepareFailedError,
    Problem,
    RecipeError,
    RunFolderError,
    TuneoffError,
    UnreadableFileError,
    nearest,
)
from tuneoff.folder import RunFolder, TrialFolder
from tuneoff.recipe import Recipe, Trial, resolved_recipe, trials
from tuneoff.recipe.arm import TuneSpec
from tuneoff.records import Failure, Plan, Progress, Resolved, RunMark, Trained, TrialResult, Try, Tuning
from tuneoff.runner.claim import claim
from tuneoff.runner.diagnosed import finished_trials, is_diagnosed
from tuneoff.runner.events import Event
from tuneoff.runner.halving import better_half, finite, rung_sizes, without_finite_loss
from tuneoff.runner.pace import Pace
from tuneoff.runner.process import Child
from tuneoff.runner.space import require_space

R = TypeVar("R", TrialResult, Trained, Tuning, Try)
# How a try of a learning rate ends that says nothing of the rate: killed, or without a disk to write to.
NO_FAULT_OF_THE_RATE = ("signal", "exit", "disk")


class Listener(Protocol):
    """Who is told how a run goes. `trial` is None while it is being prepared; `rate` is one that is tried for it."""

    def begins(self, trial: Trial | None, rate: float | None = None) -> None: ...

    def tells(self, event: Event, progress: Progress) -> None: ...

    def resolved(self, resolved: Resolved) -> None: ...

    def planned(self, plan: Plan) -> None: ...

    def tuned(self, tuning: Tuning) -> None: ...

    def warns(self, text: str) -> None: ...

    def ends(self, trial: Trial, result: TrialResult, kept: bool) -> None: ...

    def diagnoses(self) -> None: ...


class Run:
    """One recipe in one folder: all of its arms, or those named in `arms`, the others to be run later.

    Raises RecipeError where the recipe has no such arm.
    """

    def __init__(
        self, recipe: Recipe, folder: RunFolder, listener: Listener, force: bool = False, arms: Sequence[str] = ()
    ) -> None:
        problems = [
            Problem((), f"the recipe has no arm {name!r}; {nearest(name, recipe.arms)}")
            for name in arms
            if name not in recipe.arms
        ]
        if problems:
            raise RecipeError(problems)
        self._recipe, self._folder, self._listener, self._force = recipe, folder, listener, force
        self._trials = [trial for trial in trials(recipe) if not arms or trial.arm in arms]
        self._pace = Pace(folder, recipe, self._trials)
        self._child: Child | None = None
        self._stop_asked = False

    def carry_out(self) -> bool:
        """Run or resume; True where every trial of these arms is done.

        Raises RunFolderError where the folder holds files of others, RunBusyError, RecipeChangedError,
        InterruptedRunError, PrepareFailedError and the mistakes that preparing finds (an arm that does not fit among
        them, or a disk without room, unless `force`). A mistake that only a trial meets is its failure.
        """
        self._folder.require_own_or_empty()
        if not self._folder.resolved.is_file():
            require_early(self._recipe, weights=True)
        with self._folder.lock(), self._signals():
            claim(self._folder, self._recipe)
            todo = [trial for trial in self._trials if self._finished(trial) is None]
            try:
                if todo:
                    if self._folder.resolved.is_file():
                        require_early(resolved_recipe(Resolved.read(self._folder.resolved)), weights=True)
                    self._prepare(todo)
                results = [self._result(trial) for trial in self._trials]
                if self._recipe.diagnose is not None:
                    self._diagnose(self._recipe)
            finally:
                self._pace.stops()
        return all(result.status == "done" for result in results)

    def _diagnose(self, recipe: Recipe) -> None:
        """Diagnose the trials that are done, unless they have been. A failure is a warning: their results stand."""
        again = f"`tuneoff diagnose {self._folder.path}` tries it again"
        try:
            if not finished_trials(self._folder, recipe) or is_diagnosed(self._folder, recipe):
                return
            self._pace.diagnoses()
            self._listener.diagnoses()
            failure = self._launch(["diagnose"], self._folder.diagnose_log)
        except InterruptedRunError:
            raise
        except TuneoffError as error:
            self._listener.warns(f"not diagnosed: {error}")
            return
        if failure is not None:
            self._listener.warns(f"not diagnosed: {failure.kind}: {failure.message}; {again}")

    def _result(self, trial: Trial) -> TrialResult:
        finished = self._finished(trial)
        result = finished or self._carry_out_trial(trial)
        self._pace.ends(trial)
        self._listener.ends(trial, result, kept=finished is not None)
        return result

    def _finished(self, trial: Trial) -> TrialResult | None:
        """The result of a trial that is done. Raises ForeignResultError where it is of another run."""
        path = self._trial_folder(trial).result
        result = self._kept(TrialResult, path, f"{trial.arm} at seed {trial.seed} is evaluated again")
        return result if result is not None and result.status == "done" else None

    def _kept(self, kind: type[R], path: Path, again: str) -> R | None:
        """A record of an earlier attempt; None where there is none.

        A damaged one is deleted, and what is done `again` for it is told. Raises UnreadableFileError where the system
        does not let it be read, since it may be whole, ForeignResultError where it is of another run, and
        RunFolderError where a folder lies in its place, which is nothing of ours to delete.
        """
        if path.is_dir():
            raise RunFolderError(f"{path} is a folder, and should be a file of this run: move it away")
        if not path.is_file():
            return None
        try:
            record = kind.read(path)
        except UnreadableFileError:
            raise
        except DamagedFileError as error:
            self._listener.warns(f"{error}: {again}")
            path.unlink()
            return None
        self._origin.require_own(record.origin, path, without=path if kind is Tuning else None)
        return record

    @property
    def _origin(self) -> RunMark:
        return Resolved.read(self._folder.resolved).origin

    def _prepare(self, todo: list[Trial]) -> None:
        """Prepare the run for the trials that are about to run; refuse what does not fit, unless `force`."""
        self._begins(None)
        arms = ",".join(dict.fromkeys(trial.arm for trial in todo))
        self._launch(["prepare", arms, *(["--force"] if self._force else [])], self._folder.prepare_log)
        self._listener.resolved(Resolved.read(self._folder.resolved))
        plan = Plan.read(self._folder.plan)
        self._pace.planned(plan, todo)
        self._listener.planned(plan)
        if not self._force:
            require_space(self._folder, self._recipe, plan, todo)

    def _carry_out_trial(self, trial: Trial) -> TrialResult:
        folder, arm = self._trial_folder(trial), self._recipe.arms[trial.arm]
        for old in (folder.result, folder.diagnosis, folder.losses):  # of an attempt that failed
            old.unlink(missing_ok=True)
        failure = self._tune(trial, arm.tune) if arm.tune is not None else None
        if failure is None:
            self._begins(trial)
            for part in self._parts(trial):
                failure = self._launch([part, trial.arm, str(trial.seed)], folder.log)
                if failure is not None:
                    break
        if failure is not None:
            resolved = Resolved.read(self._folder.resolved)
            TrialResult(
                origin=resolved.origin,
                arm=trial.arm,
                seed=trial.seed,
                status="failed",
                method=arm.method,
                settings={
                    **resolved_recipe(resolved).arms[trial.arm].settings,
                    "learning_rate": resolved.learning_rates[trial.arm],
                },
                failure=failure,
            ).write(folder.result)
        return TrialResult.read(folder.result)

    def _parts(self, trial: Trial) -> list[str]:
        """The processes that a trial still needs. One that was trained before it died is not trained again."""
        if not self._recipe.arms[trial.arm].trains:
            return ["evaluate"]
        path = self._trial_folder(trial).trained
        trained = self._kept(Trained, path, f"{trial.arm} at seed {trial.seed} is trained again")
        return ["train", "evaluate"] if trained is None else ["evaluate"]

    def _tune(self, trial: Trial, tune: TuneSpec) -> Failure | None:
        """Search for the rate, once for all seeds, and record the choice; a failure where none can be trained.

        Each rate is tried once, or rung by rung of a successive halving. Tries that were finished before are kept.
        """
        path = self._folder.tuning(trial.arm)
        kept = self._kept(Tuning, path, f"the learning rate of {trial.arm} is searched again")
        if kept is not None:
            self._settle(kept)
            return None
        tries: list[Try] = []
        judged: list[Try] = []
        rates = tune.learning_rate
        rungs = range(1, len(rung_sizes(len(rates))) + 1) if tune.halving else [None]
        for rung in rungs:
            made = [self._try(trial, rate, rung) for rate in rates]
            failures = [t.failure for t in made if t.failure is not None]
            died = next((failure for failure in failures if failure.kind in NO_FAULT_OF_THE_RATE), None)
            if died is not None:  # another attempt makes it again, and keeps the others
                return died
            if not finite(made):
                return without_finite_loss(made, tries)
            tries, judged, rates = [*tries, *made], finite(made), better_half(made)
            if len(judged) == 1:
                break
        best = min(judged, key=lambda t: t.validation_loss or 0.0)
        tuning = Tuning(origin=self._origin, arm=trial.arm, tries=tries, chosen=best.learning_rate)
        tuning.write(path)
        self._settle(tuning)
        self._listener.tuned(tuning)
        return None

    def _settle(self, tuning: Tuning) -> None:
        """Write the rate that was chosen into resolved.json, unless it is there."""
        before = Resolved.read(self._folder.resolved)
        after = before.with_rate(tuning.arm, tuning.chosen)
        if after != before:
            after.write(self._folder.resolved)

    def _try(self, trial: Trial, rate: float, rung: int | None) -> Try:
        folder = self._folder.rate(trial.arm, rate, rung)
        kept = self._kept(Try, folder.tried, f"the rate {rate:g} of {trial.arm} is tried again")
        if kept is None:
            self._begins(trial, rate)
            of_rung = [] if rung is None else [str(rung)]
            failure = self._launch(["try", trial.arm, str(trial.seed), repr(rate), *of_rung], folder.log)
            if failure is not None:
                known = {"origin": self._origin, "learning_rate": rate, "rung": rung, "failure": failure}
                tried = Try.model_validate({**known, "steps": 0, "validation_loss": None, "seconds": 0.0})
                if failure.kind == "not a number":  # another attempt would end in the same way
                    tried.write(folder.tried)
                return tried
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        return kept or Try.read(folder.tried)

    def _launch(self, work: list[str], log: Path) -> Failure | None:
        """Carry out `work` in a child. A failure of preparing, or a mistake that it finds, is raised at once."""
        if self._stop_asked:
            raise InterruptedRunError
        preparing = work[0] == "prepare"
        self._child = Child([str(self._folder.path.resolve()), *work], log)
        if self._stop_asked:  # while it was being started
            self._child.stop()
        try:
            ended = self._child.listen(lambda event: self._listener.tells(event, self._pace.note(event)))
        finally:
            self._child = None
        if ended.stopped:
            raise InterruptedRunError
        if ended.mistake is not None:
            if preparing:
                raise ended.mistake
            return Failure(kind="exception", message=str(ended.mistake), log="")
        if ended.failure is not None and preparing:
            known = ended.failure.kind in ("out of memory", "disk")  # what the message says is all that there is to say
            told = f"{ended.failure.kind}: {ended.failure.message}"
            raise PrepareFailedError(told if known else f"{ended.failure.message}\n{ended.failure.log}")
        return ended.failure

    def _begins(self, trial: Trial | None, rate: float | None = None) -> None:
        self._pace.begins(trial, rate)
        self._listener.begins(trial, rate)

    def _trial_folder(self, trial: Trial) -> TrialFolder:
        return self._folder.trial(trial.arm, trial.seed)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into a request to the child; a second one ends it at once, whatever it does.

        Outside of the main thread, where Python hears no signals, they are left to the program that runs this.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_number: int, _frame: FrameType | None) -> None:
            self._stop_asked = True
            if self._child is not None:
                self._child.stop()

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
