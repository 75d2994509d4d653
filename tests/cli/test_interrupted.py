"""Runs that are killed and interrupted, and end as if they had not been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.commands import start, trial_process, tuneoff, tuneoff_process, wait_for, write_recipe
from tests.conftest import recipe_values

pytestmark = pytest.mark.timeout(900)  # each of these makes several runs, whose children load torch anew


def long_recipe(data_folder: Path, path: Path) -> Path:
    values = recipe_values(data_folder)
    del values["arms"]["original"]
    values["training"] |= {"max_steps": 400, "checkpoint_minutes": 0.02}
    values["data"]["splits"] = {"validation": None}
    return write_recipe(path, values)


def steps(folder: Path, arm: str) -> int:
    history = folder / "trials" / arm / "seed-0" / "history.jsonl"
    lines = history.read_text().splitlines() if history.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def test_a_killed_trial_is_told_the_others_go_on_and_a_resumed_one_ends_as_if_undisturbed(
    data_folder: Path, tmp_path: Path
) -> None:
    recipe = long_recipe(data_folder, tmp_path / "long.yaml")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    tuneoff("run", recipe, "--out", whole)

    parent = start("run", recipe, "--out", folder)
    wait_for((folder / "recipe.yaml").is_file, "the run to begin", parent)
    other_out, other = tuneoff("run", recipe, "--out", folder, status=2)
    assert "another tuneoff is at work" in other
    assert other_out == ""
    checkpoints = folder / "trials/full/seed-0/checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("checkpoint-*"))) > 1, "a whole checkpoint", parent)
    victim = trial_process(parent, "full")
    assert victim is not None
    victim.kill()
    out, err = parent.communicate(timeout=600)
    assert parent.returncode == 1
    assert "failed: signal: killed by SIGKILL" in err
    assert "full, seed 0: signal: killed by SIGKILL" in out
    assert json.loads((folder / "trials/full/seed-0/result.json").read_text())["failure"]["kind"] == "signal"
    assert json.loads((folder / "trials/lora/seed-0/result.json").read_text())["status"] == "done"

    lora = (folder / "trials/lora/seed-0/result.json").stat().st_mtime_ns
    tuneoff_process("run", "--out", folder)
    assert (folder / "trials/lora/seed-0/result.json").stat().st_mtime_ns == lora
    resumed = json.loads((folder / "trials/full/seed-0/result.json").read_text())
    assert resumed["training"]["resumed_from_step"] >= 1
    assert resumed["seconds"]["redone"] >= 0
    for arm, name in (("full", "model.safetensors"), ("lora", "adapter_model.safetensors")):
        place = Path("trials") / arm / "seed-0"
        assert (folder / place / "model" / name).read_bytes() == (whole / place / "model" / name).read_bytes()
        assert (folder / place / "predictions.jsonl").read_text() == (whole / place / "predictions.jsonl").read_text()


def test_ctrl_c_saves_and_the_same_command_goes_on(data_folder: Path, tmp_path: Path) -> None:
    recipe, folder = long_recipe(data_folder, tmp_path / "long.yaml"), tmp_path / "run"
    parent = start("run", recipe, "--out", folder, "--set", "training.checkpoint_minutes=60")
    wait_for(lambda: steps(folder, "full") >= 50, "50 steps of training", parent)
    parent.send_signal(signal.SIGINT)
    out, err = parent.communicate(timeout=200)
    assert parent.returncode == 130
    assert f"Interrupted. Resume with: tuneoff run --out {folder}" in err
    assert (out, "Traceback" in err) == ("", False)
    assert len(list((folder / "trials/full/seed-0/checkpoints").iterdir())) == 1
    assert "not finished: full/seed-0, lora/seed-0" in tuneoff("show", folder)[0]

    # A parent that dies without a word takes its child along.
    parent = start("run", "--out", folder)
    wait_for(lambda: trial_process(parent, "full") is not None, "trial", parent)
    child = trial_process(parent, "full")
    assert child is not None
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=200)
    assert child.wait(timeout=60) is None or not child.is_running()

    tuneoff_process("run", "--out", folder)
    assert json.loads((folder / "trials/full/seed-0/result.json").read_text())["training"]["resumed_from_step"] >= 50
