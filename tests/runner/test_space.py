from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tuneoff.errors import NoSpaceError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, trials
from tuneoff.records import Plan, PlannedArm, Range
from tuneoff.runner.space import require_space

GIB = 2**30
Usage = namedtuple("Usage", "total used free")


def plan(seconds: float) -> Plan:
    """Full fine-tuning saves 2 GiB, LoRA a tenth."""
    took = {"train": Range(value=seconds, low=seconds / 2, high=2 * seconds)}
    saved = {"original": 0, "full": 2 * GIB, "lora": 2 * GIB // 10}
    arms = [
        PlannedArm(arm=name, method=name, parameters=None, states={}, saved_bytes=size, seconds=took if size else None)
        for name, size in saved.items()
    ]
    return Plan(device="CPU", precision="fp32", libraries=1, micro_batch=8, steps=1, arms=arms)


@pytest.mark.parametrize(
    ("seconds", "arms", "needed"),
    [
        (60, ["original", "full", "lora"], 2.2 + 3 * 2),  # one checkpoint, when it is asked to stop
        (3600, ["original", "full", "lora"], 2.2 + 3 * 3 * 2),
        (3600, ["original", "lora"], 0.2 + 3 * 3 * 0.2),
        (3600, ["original"], 0.0),
    ],
)
def test_a_disk_without_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, arms: list[str], needed: float
) -> None:
    recipe = Recipe.model_validate(recipe_values(tmp_path))
    todo = [trial for trial in trials(recipe) if trial.arm in arms]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, int((needed + 0.01) * GIB)))
    require_space(RunFolder(tmp_path), recipe, plan(seconds), todo)
    if needed:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, int((needed - 0.01) * GIB)))
        with pytest.raises(NoSpaceError, match=rf"need {needed:.2f} GiB on the disk"):
            require_space(RunFolder(tmp_path), recipe, plan(seconds), todo)


def test_less_than_a_gibibyte_is_told_in_mebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(recipe_values(tmp_path))
    todo = [trial for trial in trials(recipe) if trial.arm == "lora"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 5 * 2**20))
    with pytest.raises(NoSpaceError, match=r"need 819 MiB on the disk, 205 MiB for models .* and 5 MiB are free"):
        require_space(RunFolder(tmp_path), recipe, plan(60), todo)
