"""The arms of a run as they stand on disk: what every part of the report reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tuneoff.errors import DamagedFileError
from tuneoff.folder import RunFolder, TrialFolder
from tuneoff.recipe import Recipe, Trial, trials
from tuneoff.recipe.arm import ArmSpec
from tuneoff.records import (
    Diagnosis,
    Plan,
    PlannedArm,
    Prediction,
    Resolved,
    TrialResult,
    Tuning,
    UpdateLosses,
    read_predictions,
)

R = TypeVar("R", UpdateLosses, Diagnosis)


@dataclass(frozen=True)
class Arm:
    """One arm under the name that it is shown by, with the results of its trials so far (None where there is none).

    Attributes:
        name: What it is shown as.
        spec: What the recipe says of it.
        folders: Where each trial lies, by seed.
        results: Its trials' results, by seed.
        tuning: Its search for a learning rate, if it has made one.
        planned: What the plan says of it.
        tried: Where each try of a learning rate lies.
        losses: Losses of the model of each diagnosed trial and of variants of its update, by seed.
        diagnoses: What training did to the weights of each diagnosed trial, by seed.
    """

    name: str
    spec: ArmSpec
    folders: dict[int, TrialFolder]
    results: dict[int, TrialResult | None]
    tuning: Tuning | None
    planned: PlannedArm | None = None
    tried: tuple[TrialFolder, ...] = ()
    losses: dict[int, UpdateLosses] = field(default_factory=dict)
    diagnoses: dict[int, Diagnosis] = field(default_factory=dict)

    @cached_property
    def done(self) -> dict[int, TrialResult]:
        """The finished trials by seed."""
        return {seed: r for seed, r in self.results.items() if r is not None and r.status == "done"}

    @property
    def first(self) -> TrialResult | None:
        """The first finished trial."""
        return next(iter(self.done.values()), None)

    @property
    def first_folder(self) -> TrialFolder | None:
        return self.folders[self.first.seed] if self.first else None

    @cached_property
    def predictions(self) -> dict[int, list[Prediction]]:
        """What each finished trial wrote, by seed. Raises DamagedFileError where it cannot be read."""
        found = {}
        for seed, result in self.done.items():
            scored = result.scores.examples if result.scores is not None else None
            found[seed] = read_predictions(self.folders[seed].predictions, scored)
        return found

    def predicted(self, seed: int) -> list[Prediction]:
        """What it wrote at `seed`; what trains nothing is the same at every seed."""
        return self.predictions.get(seed) or next(iter(self.predictions.values()))


def read_arms(
    folder: RunFolder, recipe: Recipe, resolved: Resolved | None, warnings: list[str], prefix: str = ""
) -> list[Arm]:
    """Every arm of the run, in the recipe's order, under `prefix` and its name.

    What can be done without, and cannot be read, is told in a line that is added to `warnings`. Raises RunFolderError
    where a result cannot be read, or is of another run than `resolved`.
    """
    every = trials(recipe)
    plan = None
    try:
        plan = Plan.read(folder.plan) if folder.plan.is_file() else None
    except DamagedFileError as error:
        warnings.append(f"{error}: predictions are not shown")
    planned = {arm.arm: arm for arm in plan.arms} if plan else {}
    arms = []
    for name, spec in recipe.arms.items():
        own = [trial for trial in every if trial.arm == name]
        tuning = Tuning.read(folder.tuning(name)) if folder.tuning(name).is_file() else None
        tries = tuning.tries if tuning is not None else []
        results = {t.seed: _result(folder, t, resolved) for t in own}
        folders = {t.seed: folder.trial(t.arm, t.seed) for t in own}
        done = {seed: r for seed, r in results.items() if r is not None and r.status == "done" and spec.trains}
        arms.append(
            Arm(
                name=prefix + name,
                spec=spec,
                folders=folders,
                results=results,
                tuning=tuning,
                planned=planned.get(name),
                tried=tuple(folder.rate(name, t.learning_rate, t.rung) for t in tries),
                losses=_diagnosed(UpdateLosses, {s: folders[s].losses for s in done}, done, warnings),
                diagnoses=_diagnosed(Diagnosis, {s: folders[s].diagnosis for s in done}, done, warnings),
            )
        )
    return arms


def _diagnosed(
    kind: type[R], paths: dict[int, Path], done: dict[int, TrialResult], warnings: list[str]
) -> dict[int, R]:
    """The records of the finished trials that have been diagnosed, by seed; those of another run are left out."""
    found = {}
    for seed, path in paths.items():
        if not path.is_file():
            continue
        try:
            record = kind.read(path)
        except DamagedFileError as error:
            warnings.append(f"{error}: `tuneoff diagnose` makes it anew")
            continue
        known = not isinstance(record, UpdateLosses) or record.variants
        if known and record.origin == done[seed].origin:
            found[seed] = record
    return found


def _result(folder: RunFolder, trial: Trial, resolved: Resolved | None) -> TrialResult | None:
    path = folder.trial(trial.arm, trial.seed).result
    if not path.is_file():
        return None
    result = TrialResult.read(path)
    if resolved is not None:
        resolved.origin.require_own(result.origin, path)
    return result
