"""What a child does before the trials, in this process."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tuneoff.errors import DoesNotFitError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, write_recipe
from tuneoff.records import Fit, Plan, PlannedArm
from tuneoff.runner.child import _prepare
from tuneoff.runner.events import Reporter


def planned(arm: str, fits: bool) -> PlannedArm:
    fit = Fit(device="this machine", capacity=2**30, fits=fits, micro_batch=None, advice=[])
    return PlannedArm(arm=arm, method=arm, parameters=None, states={}, saved_bytes=None, fits=[fit])


def test_only_arms_that_are_about_to_run_are_refused(data_folder: Path, tmp_path: Path) -> None:
    recipe, folder = Recipe.model_validate(recipe_values(data_folder)), RunFolder(tmp_path)
    write_recipe(recipe, folder.recipe)
    arms = [planned("original", True), planned("full", False), planned("lora", True)]
    Plan(device="cpu", precision="fp32", libraries=0, micro_batch=8, steps=10, arms=arms).write(folder.plan)
    report = Reporter(io.StringIO())
    with pytest.raises(DoesNotFitError, match="arm full is predicted to need"):
        _prepare(recipe, folder, report, arms=["original", "full", "lora"], force=False)
    assert not folder.prepared.is_file()
    _prepare(recipe, folder, report, arms=["full"], force=True)
    folder.prepared.unlink()
    _prepare(recipe, folder, report, arms=["original", "lora"], force=False)
    assert folder.prepared.is_file()
