"""How fast a run goes, and how long it will still take: from the events of its child processes and its plan."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from tuneoff.errors import WriteError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial
from tuneoff.recipe.arm import TuneSpec
from tuneoff.records import Plan, PlannedArm, Progress
from tuneoff.runner.events import Event
from tuneoff.runner.halving import rung_sizes, rung_steps

WINDOW = 30.0  # seconds that the pace of a phase is taken over
EVERY = 1.0  # seconds between two writings of progress.json
PLANNED = ("train", "try", "evaluate")  # the phases whose seconds are planned and whose progress is told

Planned = Literal["train", "evaluate"]


@dataclass
class _Phase:
    """A phase at work: its reports of progress, as (time, done, tokens)."""

    name: str
    began: float
    seen: deque[tuple[float, int, int]]
    total: int = 0

    @property
    def done(self) -> int:
        return self.seen[-1][1] if self.seen else 0


class Pace:
    """Follows a run of `trials` whose trials in `todo` are still to be done, and keeps `progress.json`.

    Args:
        folder: The run's.
        recipe: Its recipe.
        trials: All trials of the run, in their order.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, folder: RunFolder, recipe: Recipe, trials: Sequence[Trial], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._recipe, self._trials, self._clock = folder.progress, recipe, list(trials), clock
        self._plan: Plan | None = None
        self._left: dict[Trial, int] = {}  # trials to be done → tries of learning rates that are still to be made
        self._trial: Trial | None = None
        self._rate: float | None = None
        self._diagnosing = False
        self._phase = _Phase("", clock(), deque())
        self._spent = {"train": [0.0, 0.0], "evaluate": [0.0, 0.0]}  # seconds: measured, and planned for the same
        self._written = -EVERY
        self.now = Progress(updated=time.time(), running=True, trial=0, trials=len(self._trials))

    def planned(self, plan: Plan, todo: Sequence[Trial]) -> None:
        """What the trials that are still to be done are planned to take."""
        self._plan = plan
        first: set[str] = set()
        for trial in todo:
            tune = self._recipe.arms[trial.arm].tune
            self._left[trial] = _tries(tune) if tune is not None and trial.arm not in first else 0
            first.add(trial.arm)

    def begins(self, trial: Trial | None, rate: float | None = None) -> None:
        """A trial begins, or a try of a rate for it; None while the run is prepared."""
        if self._rate is not None and self._trial is not None:
            self._left[self._trial] = max(0, self._left.get(self._trial, 0) - 1)
        if trial is not None and rate is None and trial in self._left:
            self._left[trial] = 0  # whatever was to be tried has been, or was found in the folder
        self._trial, self._rate = trial, rate
        self._enter("")

    def diagnoses(self) -> None:
        self._left, self._trial, self._rate, self._diagnosing = {}, None, None, True
        self._enter("")

    def ends(self, trial: Trial) -> None:
        self._left.pop(trial, None)

    def note(self, event: Event) -> Progress:
        """How far the run is, after an event of the child at work."""
        now = self._clock()
        if event.kind == "phase":
            self._enter(event.text)
        elif event.kind == "progress":
            self._phase.total = event.total
            seen = self._phase.seen
            if not seen:
                self._phase.began = now
            seen.append((now, event.done, event.tokens or 0))
            while now - seen[0][0] > WINDOW and len(seen) > 2:
                seen.popleft()
        self.now = self._progress(event)
        if event.kind == "phase" or now - self._written >= EVERY:
            self._written = now
            self._write()
        return self.now

    def stops(self) -> None:
        """The run is no longer at work."""
        self.now = self.now.model_copy(update={"running": False, "updated": time.time(), "run_seconds_left": None})
        self._write()

    def _write(self) -> None:
        with suppress(WriteError):  # it is for the eye alone: what fills the disk is told where a result is lost
            self.now.write(self._path)

    def _enter(self, name: str) -> None:
        kind, seen = self._kind(), self._phase.seen
        if kind is not None and len(seen) > 1:
            measured, planned = self._since(kind)
            self._spent[kind][0] += measured
            self._spent[kind][1] += planned
        self._phase = _Phase(name, self._clock(), deque())

    def _kind(self) -> Planned | None:
        """What is planned of the phase at work: a try is a training."""
        if self._phase.name not in PLANNED or self._trial is None:
            return None
        return "evaluate" if self._phase.name == "evaluate" else "train"

    def _since(self, kind: Planned) -> tuple[float, float]:
        """Seconds of the phase at work that its last moments were seen to take, and those planned for the same part."""
        seen, total = self._phase.seen, self._phase.total
        if len(seen) < 2 or not total or self._trial is None:
            return 0.0, 0.0
        (began, before, _), (at, done, _) = seen[0], seen[-1]
        whole = self._seconds(self._trial.arm).get(kind, 0.0)
        if self._phase.name == "try":
            whole *= self._try_share(self._trial.arm)
        return at - began, whole * (done - before) / total

    def _progress(self, event: Event) -> Progress:
        seen = self._phase.seen
        speed = tokens = None
        if len(seen) > 1 and (span := seen[-1][0] - seen[0][0]) > 0:
            speed = (seen[-1][1] - seen[0][1]) / span
            tokens = (seen[-1][2] - seen[0][2]) / span or None
        left = (self._phase.total - self._phase.done) / speed if speed else None
        counts = event.kind == "progress"
        return Progress(
            updated=time.time(),
            running=True,
            trial=self._trials.index(self._trial) + 1 if self._trial is not None else 0,
            trials=len(self._trials),
            arm=self._trial.arm if self._trial is not None else None,
            seed=self._trial.seed if self._trial is not None else None,
            rate=self._rate,
            phase=("diagnose: " if self._diagnosing else "") + self._phase.name,
            done=self._phase.done,
            total=self._phase.total,
            loss=event.loss if counts else None,
            tokens_per_second=tokens,
            device=event.device if counts else "",
            device_share=event.device_share if counts else None,
            memory_bytes=event.memory_bytes if counts else None,
            phase_seconds_left=left,
            run_seconds_left=self._run_left(left),
        )

    def _run_left(self, phase_left: float | None) -> float | None:
        """Seconds of all that is still to be done; None where nothing is planned for it."""
        if self._plan is None:
            return None
        diagnosis = self._plan.diagnosis.value if self._plan.diagnosis is not None else 0.0
        if self._diagnosing:
            return max(0.0, diagnosis - (self._clock() - self._phase.began)) if diagnosis else None
        if any(not self._seconds(trial.arm) for trial in self._left):
            return None
        factors = {"train": self._factor("train"), "evaluate": self._factor("evaluate")}
        total = sum(self._trial_left(trial, tries, factors, phase_left) for trial, tries in self._left.items())
        return total + (diagnosis if self._recipe.diagnose is not None else 0.0)

    def _trial_left(self, trial: Trial, tries: int, factors: Mapping[str, float], phase_left: float | None) -> float:
        seconds = self._seconds(trial.arm)
        rest = max(0.0, seconds["total"] - seconds.get("train", 0.0) - seconds.get("evaluate", 0.0))
        train = factors["train"] * seconds.get("train", 0.0)
        evaluate = factors["evaluate"] * seconds.get("evaluate", 0.0)
        a_try = train * self._try_share(trial.arm) + rest / 2
        at_work = trial == self._trial
        if not at_work:
            return tries * a_try + train + evaluate + rest
        if self._rate is not None:
            now = phase_left if self._phase.name == "try" and phase_left is not None else a_try
            return now + (tries - 1) * a_try + train + evaluate + rest
        if self._phase.name == "evaluate":
            return phase_left if phase_left is not None else evaluate
        if self._phase.name == "train":
            return (phase_left if phase_left is not None else train) + evaluate + rest / 2
        return evaluate if self._phase.name in ("score", "save") else train + evaluate

    def _factor(self, kind: Planned) -> float:
        """What this machine has taken so far, over what was planned for the same."""
        measured, planned = self._spent[kind]
        if kind == self._kind():
            more = self._since(kind)
            measured, planned = measured + more[0], planned + more[1]
        return measured / planned if measured > 0 and planned > 0 else 1.0

    def _seconds(self, arm: str) -> dict[str, float]:
        """The seconds planned for one trial of an arm; empty where they are not predicted."""
        planned = self._arms().get(arm)
        if planned is None or planned.seconds is None:
            return {}
        return {phase: found.value for phase, found in planned.seconds.items()}

    def _arms(self) -> dict[str, PlannedArm]:
        return {arm.arm: arm for arm in self._plan.arms} if self._plan is not None else {}

    def _try_share(self, arm: str) -> float:
        """The mean steps of a try, as a part of a whole training."""
        tune = self._recipe.arms[arm].tune
        if tune is None or self._plan is None or not self._plan.steps:
            return 0.0
        rates = len(tune.learning_rate)
        search = self._recipe.training.search_steps(self._plan.steps)
        steps = float(search)
        if tune.halving:
            sizes, of_rungs = rung_sizes(rates), rung_steps(rates, search)
            steps = sum(a * b for a, b in zip(sizes, of_rungs, strict=True)) / sum(sizes)
        return steps / self._plan.steps


def _tries(tune: TuneSpec) -> int:
    rates = len(tune.learning_rate)
    return sum(rung_sizes(rates)) if tune.halving else rates
