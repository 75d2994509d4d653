"""The arms of a run as they stand on disk: what every part of the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tuneoff.errors import RunFolderError, first_line
from tuneoff.folder import RunFolder, TrialFolder
from tuneoff.recipe import Recipe, Trial, trials
from tuneoff.recipe.schema import ArmSpec
from tuneoff.records import Plan, PlannedArm, Prediction, TrialResult, Tuning, read_predictions


@dataclass(frozen=True)
class Arm:
    """One arm under the name that it is shown by, with the results of its trials so far (None where there is none)."""

    name: str
    spec: ArmSpec
    folders: dict[int, TrialFolder]
    results: dict[int, TrialResult | None]
    tuning: Tuning | None
    planned: PlannedArm | None = None

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
        """What each finished trial wrote, by seed. Raises RunFolderError where it cannot be read."""
        found = {}
        for seed in self.done:
            path = self.folders[seed].predictions
            try:
                found[seed] = read_predictions(path)
            except (OSError, ValueError) as error:
                raise RunFolderError(f"{path} cannot be read ({first_line(error)})") from None
        return found

    def predicted(self, seed: int) -> list[Prediction]:
        """What it wrote at `seed`; what trains nothing is the same at every seed."""
        return self.predictions.get(seed) or next(iter(self.predictions.values()))


def read_arms(folder: RunFolder, recipe: Recipe, prefix: str = "") -> list[Arm]:
    """Every arm of the run, in the recipe's order, under `prefix` and its name. Raises RunFolderError."""
    every = trials(recipe)
    plan = Plan.read(folder.plan) if folder.plan.is_file() else None
    planned = {arm.arm: arm for arm in plan.arms} if plan else {}
    arms = []
    for name, spec in recipe.arms.items():
        own = [trial for trial in every if trial.arm == name]
        tuning = folder.tuning(name)
        arms.append(
            Arm(
                name=prefix + name,
                spec=spec,
                folders={t.seed: folder.trial(t.arm, t.seed) for t in own},
                results={t.seed: _result(folder, t) for t in own},
                tuning=Tuning.read(tuning) if tuning.is_file() else None,
                planned=planned.get(name),
            )
        )
    return arms


def _result(folder: RunFolder, trial: Trial) -> TrialResult | None:
    path = folder.trial(trial.arm, trial.seed).result
    try:
        return TrialResult.read(path) if path.is_file() else None
    except ValueError as error:
        raise RunFolderError(f"{path} is not the result of a trial ({first_line(error)})") from None
