"""The real command in processes of its own: a whole run, and every way in which one is disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import recipe_values

TUNEOFF = [sys.executable, "-m", "tuneoff"]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TUNEOFF, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def tuneoff(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Standard output and error of a command that must end with `status`."""
    process = start(*arguments)
    out, err = process.communicate(timeout=200)
    assert process.returncode == status, err
    return out, err


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds while `process` works towards it."""
    for _ in range(1200):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"no {what}: the command ended with {process.returncode}: {process.communicate()}")
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"no {what} within two minutes: {process.communicate()}")


def trial_process(parent: subprocess.Popen[str], arm: str) -> psutil.Process | None:
    for child in psutil.Process(parent.pid).children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if arm in child.cmdline():
                return child
    return None


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """A finished run: its recipe, its folder, what it printed."""
    path = tmp_path_factory.mktemp("cli")
    recipe = write_recipe(path / "three.yaml", recipe_values(data_folder))
    out, err = tuneoff("run", recipe, "--out", path / "run")
    return recipe, path / "run", out, err


def test_a_run_prints_the_table_samples_and_places(run: tuple[Path, Path, str, str]) -> None:
    _, folder, out, err = run
    header, *rows = out.splitlines()[:4]
    assert header.split() == ["arm", "trainable", "share", "train", "memory", "R-1", "R-2", "R-L"]
    assert [row.split()[0] for row in rows] == ["original", "full", "lora"]
    assert "100.00%" in rows[1]
    assert out.count("── example") == 3
    assert out.count("#Person2#: Yes") == 3
    assert f"lora       {folder}/trials/lora/seed-0/model" in out
    assert max(map(len, out.split("\nrun  ")[0].splitlines())) <= 80
    assert "[lora] train" in err
    assert "\x1b" not in out + err  # plain where there is no terminal


def test_show_prints_it_again_and_json_is_for_machines(run: tuple[Path, Path, str, str]) -> None:
    _, folder, out, _ = run
    assert tuneoff("show", folder)[0] == out
    values = json.loads(tuneoff("show", folder, "--json")[0])
    assert values == json.loads((folder / "comparison.json").read_text())
    assert [row["arm"] for row in values["arms"]] == ["original", "full", "lora"]


def test_a_finished_run_is_not_run_again(run: tuple[Path, Path, str, str]) -> None:
    recipe, folder, out, _ = run
    results = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    again, err = tuneoff("run", recipe, "--out", folder)
    assert again == out
    assert "finished before" in err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == results


def test_one_arm_can_be_named(run: tuple[Path, Path, str, str]) -> None:
    recipe, folder, out, _ = run
    again, err = tuneoff("run", recipe, "--out", folder, "--arm", "lora")
    assert again == out
    assert "[lora] done (finished before)" in err and "[full]" not in err
    _, err = tuneoff("run", recipe, "--out", folder, "--arm", "loro", status=2)
    assert err == "tuneoff: three.yaml: the recipe has no arm 'loro'; did you mean 'lora'?\n"


def test_a_rate_is_searched_for_on_the_validation_split(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    full = {"method": "full", "tune": {"learning_rate": [1e-6, 1e-2]}}
    values |= {"arms": {"original": {"method": "none"}, "full": full}, "seeds": [0, 1]}
    values["training"]["tune_steps"] = 4
    recipe, folder = write_recipe(tmp_path / "tuned.yaml", values), tmp_path / "run"
    out, err = tuneoff("run", recipe, "--out", folder)
    assert err.count("full at 1e-06] try") == 1  # once for all seeds
    tuning = json.loads((folder / "trials" / "full" / "tuning.json").read_text())
    losses = {t["learning_rate"]: t["validation_loss"] for t in tuning["tries"]}
    assert losses[1e-2] < losses[1e-6]
    assert tuning["chosen"] == 1e-2
    assert {t["steps"] for t in tuning["tries"]} == {4}
    for seed in (0, 1):
        result = json.loads((folder / "trials" / "full" / f"seed-{seed}" / "result.json").read_text())
        assert result["settings"]["learning_rate"] == 1e-2
    assert "full: learning rate 0.01, by validation loss after 4 steps (1e-06:" in out.replace("\n", "")
    assert "Over 2 seeds" in out
    assert (folder / "report.html").is_file()
    assert tuneoff("run", recipe, "--out", folder)[0] == out


def test_a_changed_recipe_is_refused_with_the_difference(run: tuple[Path, Path, str, str]) -> None:
    recipe, folder, _, _ = run
    out, err = tuneoff("run", recipe, "--out", folder, "--set", "arms.lora.r=8", status=2)
    assert "arms.lora.r: 4 → 8" in err
    assert (out, "Traceback" in err) == ("", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"lora": {"method": "lora", "learning_rate": 1, "lora_alhpa": 8}}}, "did you mean 'lora_alpha'"),
        (
            {"data": {"source": "/nowhere", "input": "dialogue", "target": "summary"}},
            "no such folder or file: /nowhere",
        ),
        ({"model": {"config": {"model_type": "t5", "d_modle": 4}, "tokenizer": {"vocab_size": 400}}}, "'d_model'"),
    ],
)
def test_mistakes_are_one_line_each_before_anything_is_trained(
    data_folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    recipe = write_recipe(tmp_path / "wrong.yaml", {**recipe_values(data_folder), **change})
    out, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    (line,) = [x for x in err.splitlines() if x.startswith("tuneoff: ")]
    assert message in line
    assert "Traceback" not in err
    assert out == ""


def test_a_wrong_setting_is_told_with_its_line(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    values["arms"]["lora"]["rank"] = 8
    recipe = write_recipe(tmp_path / "wrong.yaml", values)
    line = next(n for n, x in enumerate(recipe.read_text().splitlines(), start=1) if "rank:" in x)
    _, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    assert f"wrong.yaml:{line}: arms.lora.rank: LoraConfig has no such setting" in err
    # Mended, the recipe takes the folder that the wrong one made, and the next mistake is told.
    recipe = write_recipe(recipe, {**recipe_values(data_folder), "data": {**values["data"], "source": "/nowhere"}})
    _, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    assert "no such folder or file: /nowhere" in err


def long_recipe(data_folder: Path, path: Path) -> Path:
    values = recipe_values(data_folder)
    del values["arms"]["original"]
    values["training"] |= {"max_steps": 600, "checkpoint_minutes": 0.02}
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
    out, err = parent.communicate(timeout=200)
    assert parent.returncode == 1
    assert "failed: signal: killed by SIGKILL" in err
    assert "full, seed 0: signal: killed by SIGKILL" in out
    assert json.loads((folder / "trials/full/seed-0/result.json").read_text())["failure"]["kind"] == "signal"
    assert json.loads((folder / "trials/lora/seed-0/result.json").read_text())["status"] == "done"

    lora = (folder / "trials/lora/seed-0/result.json").stat().st_mtime_ns
    tuneoff("run", "--out", folder)
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
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert f"interrupted. To go on: tuneoff run --out {folder}" in err
    assert (out, "Traceback" in err) == ("", False)
    assert len(list((folder / "trials/full/seed-0/checkpoints").iterdir())) == 1
    assert "not finished: full/seed-0, lora/seed-0" in tuneoff("show", folder)[0]

    # A parent that dies without a word takes its child along.
    parent = start("run", "--out", folder)
    wait_for(lambda: trial_process(parent, "full") is not None, "trial", parent)
    child = trial_process(parent, "full")
    assert child is not None
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=60)
    assert child.wait(timeout=20) is None or not child.is_running()

    tuneoff("run", "--out", folder)
    assert json.loads((folder / "trials/full/seed-0/result.json").read_text())["training"]["resumed_from_step"] >= 50
