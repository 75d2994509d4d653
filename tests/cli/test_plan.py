"""`tuneoff plan`, and a run that is refused by its plan."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import tuneoff, write_recipe
from tests.conftest import recipe_values

# Hundreds of gigabytes of states, on any machine.
HUGE = {"d_model": 16384, "d_kv": 128, "d_ff": 262144, "num_layers": 1, "num_heads": 64}


def test_a_plan_is_a_table_or_json(data_folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "small.yaml", recipe_values(data_folder, layers=1))
    out, _ = tuneoff("plan", recipe, "--device", "16GB", "--sweep", "r=2,4")
    for word in ("lora-r2", "lora-r4", "weights", "activations", "16GB", "this machine"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80
    plan = json.loads(tuneoff("plan", recipe, "--json")[0])
    assert [arm["arm"] for arm in plan["arms"]] == ["original", "full", "lora"]
    assert plan["arms"][1]["longest"]["peak"] == sum(plan["arms"][1]["longest"]["components"].values())


def test_bad_options_are_one_line(data_folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "small.yaml", recipe_values(data_folder, layers=1))
    _, err = tuneoff("plan", recipe, "--device", "big", status=2)
    assert err == "tuneoff: --device takes an amount of memory such as 8GB or 24GiB, got 'big'\n"
    _, err = tuneoff("plan", recipe, "--sweep", "rank=2", status=2)
    assert err.endswith("tuneoff: --sweep rank: no arm has a method with that setting\n")


def test_a_run_that_cannot_fit_is_refused_before_anything_is_built(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    values["model"]["config"] |= HUGE
    del values["arms"]["original"], values["arms"]["lora"]
    recipe, out = write_recipe(tmp_path / "huge.yaml", values), tmp_path / "run"
    _, err = tuneoff("run", recipe, "--out", out, status=2)
    assert "tuneoff: arm full is predicted to need" in err
    assert "LoRA (r=8) in its place" in err
    assert err.endswith("To run it all the same: --force\n")
    assert not (out / "base").exists()
    assert (out / "plan.json").is_file()
