"""The real command in processes of its own: a whole run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import tuneoff, write_recipe
from tests.conftest import recipe_values


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """A finished run: its recipe, its folder, what it printed."""
    path = tmp_path_factory.mktemp("cli")
    values = {**recipe_values(data_folder, layers=1), "diagnose": {"ranks": [2], "scales": [0.5]}}
    recipe = write_recipe(path / "three.yaml", values)
    out, err = tuneoff("run", recipe, "--out", path / "run")
    return recipe, path / "run", out, err


def test_a_run_prints_the_table_samples_and_places(run: tuple[Path, Path, str, str]) -> None:
    _, folder, out, err = run
    header, *rows = out.splitlines()[:4]
    assert header.split() == ["arm", "trainable", "share", "R-1", "R-2", "R-L", "forgot"]
    costs = out.splitlines()
    (place,) = (n for n, line in enumerate(costs) if line.split()[:3] == ["arm", "training", "generating"])
    assert costs[place].split() == ["arm", "training", "generating", "peak", "peak", "peak"]
    assert [line.split("  ")[0] for line in costs[place + 1 : place + 6]] == [
        "original", "full", "lora", "original ÷ full", "lora ÷ full",
    ]  # fmt: skip
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
    assert "finished before" in err and "diagnose" not in err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == results


def test_its_arms_are_diagnosed(run: tuple[Path, Path, str, str]) -> None:
    _, folder, _, err = run
    assert "[diagnose] spectrum of full" in err and "[diagnose] losses of lora" in err
    values = json.loads((folder / "comparison.json").read_text())
    assert [(one["arm"], [cut["rank"] for cut in one["cuts"]]) for one in values["learnt"]] == [
        ("full", [2]), ("lora", []),
    ]  # fmt: skip
    for arm in ("full", "lora"):
        retained = json.loads((folder / "trials" / arm / "seed-0" / "result.json").read_text())["retained"]
        assert retained["texts"] == 60
        assert retained["difference"]["low"] <= retained["after"] - retained["before"] <= retained["difference"]["high"]


def test_one_arm_can_be_named(run: tuple[Path, Path, str, str]) -> None:
    recipe, folder, out, _ = run
    again, err = tuneoff("run", recipe, "--out", folder, "--arm", "lora")
    assert again == out
    assert "[lora] done (finished before)" in err and "[full]" not in err
    _, err = tuneoff("run", recipe, "--out", folder, "--arm", "loro", status=2)
    assert err == "tuneoff: three.yaml: the recipe has no arm 'loro'; did you mean 'lora'?\n"


def test_a_rate_is_searched_for_on_the_validation_split(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder, layers=1)
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
    recipe = write_recipe(tmp_path / "wrong.yaml", {**recipe_values(data_folder, layers=1), **change})
    out, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    (line,) = [x for x in err.splitlines() if x.startswith("tuneoff: ")]
    assert message in line
    assert "Traceback" not in err
    assert out == ""


def test_a_wrong_setting_is_told_with_its_line(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder, layers=1)
    values["arms"]["lora"]["rank"] = 8
    recipe = write_recipe(tmp_path / "wrong.yaml", values)
    line = next(n for n, x in enumerate(recipe.read_text().splitlines(), start=1) if "rank:" in x)
    _, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    assert f"wrong.yaml:{line}: arms.lora.rank: LoraConfig has no such setting" in err
    # Mended, the recipe takes the folder that the wrong one made, and the next mistake is told.
    recipe = write_recipe(
        recipe, {**recipe_values(data_folder, layers=1), "data": {**values["data"], "source": "/nowhere"}}
    )
    _, err = tuneoff("run", recipe, "--out", tmp_path / "run", status=2)
    assert "no such folder or file: /nowhere" in err
