"""A small finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.folder import RunFolder
from tuneoff.recipe import trials
from tuneoff.records import Prediction, read_predictions

ARMS = ["original", "full", "lora", "dora"]  # lora and dora are merged when their turn comes


@pytest.fixture(scope="session")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder)
    values["arms"]["dora"] = {**values["arms"]["lora"], "use_dora": True, "r": 2}
    recipe, folder = begin(values, tmp_path_factory.mktemp("serve") / "run")
    resolved = resolved_for(recipe, folder)
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
    return folder


@pytest.fixture(scope="session")
def predictions(run: RunFolder) -> dict[str, list[Prediction]]:
    """What each arm's trial wrote."""
    return {arm: read_predictions(run.trial(arm, 0).predictions) for arm in ARMS}
