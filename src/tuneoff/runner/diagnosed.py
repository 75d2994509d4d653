"""Which trials of a run there are to diagnose, and whether they have been. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from tuneoff.data.retained import retained_texts, texts_sha256
from tuneoff.errors import DamagedFileError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, trials
from tuneoff.records import Diagnosis, TrialResult, UpdateLosses
from tuneoff.runner.finished import Finished


def is_diagnosed(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether every trial that has trained and is done has been diagnosed as the recipe now asks.

    Raises DataError where the recipe's retained texts cannot be read.
    """
    assert recipe.diagnose is not None
    wanted = recipe.diagnose.model_dump(mode="json"), texts_sha256(retained_texts(recipe.evaluation.retain))
    for trial in finished_trials(folder, recipe):
        try:
            Diagnosis.read(trial.trial.diagnosis)
            losses = UpdateLosses.read(trial.trial.losses)
        except DamagedFileError:
            return False
        if losses.origin != trial.resolved.origin or (losses.settings, losses.texts.sha256) != wanted:
            return False
    return True


def finished_trials(folder: RunFolder, recipe: Recipe) -> list[Finished]:
    """The trials of the run that have trained and are done, in the recipe's order."""
    return [
        Finished(folder, trial.arm, trial.seed)
        for trial in trials(recipe)
        if recipe.arms[trial.arm].trains and _is_done(folder.trial(trial.arm, trial.seed).result)
    ]


def _is_done(result: Path) -> bool:
    return result.is_file() and TrialResult.read(result).status == "done"
