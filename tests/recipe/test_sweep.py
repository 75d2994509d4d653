"""A sweep is what the arms would be, written one by one."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import recipe_values
from tuneoff.errors import Problem, RecipeError
from tuneoff.recipe import load_recipe, read_recipe, with_ranks, write_recipe
from tuneoff.recipe.arm import ArmSpec
from tuneoff.recipe.changes import differences_from_resolved
from tuneoff.recipe.sweep import arm_name, expand_sweeps
from tuneoff.records import Resolved

SWEEP = {"r": [4, 16], "target_modules": [["q", "v"], "all-linear"]}
LORA = {"method": "lora", "learning_rate": 1e-3}


def swept(tmp_path: Path, sweep: Any = SWEEP, **more: Any) -> str:
    values = recipe_values(tmp_path)
    values["arms"] = {"original": {"method": "none"}, "lora": {**LORA, **more, "sweep": sweep}, "full": {
        "method": "full", "learning_rate": 1e-4}}  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return str(path)


def test_each_combination_is_an_arm_in_the_sweep_s_place(tmp_path: Path) -> None:
    arms = load_recipe(swept(tmp_path)).recipe.arms
    assert list(arms) == [
        "original", "lora-r4-q-v", "lora-r4-all-linear", "lora-r16-q-v", "lora-r16-all-linear", "full",
    ]  # fmt: skip
    assert arms["lora-r16-q-v"] == ArmSpec(**LORA, r=16, target_modules=["q", "v"])


@pytest.mark.parametrize("seed", range(20))
def test_as_many_arms_as_the_product_with_exactly_their_settings(seed: int) -> None:
    rng = random.Random(seed)
    values: dict[str, list[Any]] = {
        "r": [2, 4, 8, 16], "learning_rate": [1e-5, 2.5e-4, 0.003, 0.1], "use_rslora": [True, False],
        "target_modules": [["q"], ["q", "v"], "all-linear"], "lora_dropout": [0, 0.05, 0.1], "params": ["2M", 350_000],
        "init_lora_weights": ["pissa", "gaussian", True], "rank_pattern": [None, {"a": 4}],
    }  # fmt: skip
    sweep = {key: rng.sample(values[key], rng.randint(1, len(values[key]))) for key in rng.sample(list(values), 3)}
    found = expand_sweeps({"arms": {"x": {"method": "lora", "lora_alpha": 8, "sweep": sweep}}})
    assert found.problems == []
    arms = found.values["arms"]
    assert len(arms) == math.prod(map(len, sweep.values()))
    chosen = (dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values()))
    wanted = [{"method": "lora", "lora_alpha": 8, **settings} for settings in chosen]
    assert list(arms.values()) == wanted
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in arms)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"learning_rate": "1e-3"}, "x-lr1e-3"), ({"learning_rate": 0.001}, "x-lr1e-3"),
        ({"learning_rate": 2.5e-4}, "x-lr2_5e-4"), ({"lora_dropout": 0.05}, "x-lora_dropout0_05"),
        ({"r": 16, "target_modules": "all-linear"}, "x-r16-all-linear"), ({"r": 16.0}, "x-r16"),
        ({"use_rslora": True}, "x-use_rslora-true"), ({"bias": None}, "x-bias-null"),
        ({"target_modules": r".*\.(q|v)$"}, "x-q-v"), ({"target_modules": "*"}, "x-target_modules"),
        ({"params": "2M"}, "x-2M"), ({"a": float("inf")}, "x-inf"), ({"a": 1e20}, "x-a1e20"),
    ],
)  # fmt: skip
def test_names_are_readable_and_folders(settings: dict[str, Any], name: str) -> None:
    assert arm_name("x", settings) == name


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"r": []}, "arms.lora.sweep.r: takes a list of one value or more, got []"),
        ({"r": 4}, "arms.lora.sweep.r: takes a list of one value or more, got 4"),
        ({}, "arms.lora.sweep: takes settings and a list of values for each"),
        ([4, 8], "arms.lora.sweep: takes settings and a list of values for each"),
        ({"method": ["lora", "ia3"]}, "arms.lora.sweep.method: `method` cannot be swept: write an arm for each"),
        ({"r": [4, 4]}, "arms.lora.sweep: would make an arm called lora-r4, and there is one of that name"),
        ({"target_modules": ["a" * 61]}, "has 66 characters and may have 64"),
        ({"learning_rate": [-1, -2]}, "arms.lora.sweep.learning_rate: input should be greater than 0, got -1"),
    ],
)
def test_mistakes_are_told_with_the_line_of_the_file(tmp_path: Path, sweep: Any, message: str) -> None:
    path = swept(tmp_path, sweep)
    with pytest.raises(RecipeError, match=r".") as caught:
        load_recipe(path)
    lines = Path(path).read_text().splitlines()
    first = str(caught.value).splitlines()[0]
    assert message in first
    number = int(first.split(":")[1])
    assert lines[number - 1].strip().startswith(first.split(": ")[1].rpartition(".")[2] + ":")


def test_an_arm_of_the_user_keeps_its_name_whatever_stands_first() -> None:
    arms = {"lora": {**LORA, "sweep": {"r": [4]}}, "lora-r4": {"method": "none"}}
    (problem,) = expand_sweeps({"arms": arms}).problems
    assert "would make an arm called lora-r4, and there is one of that name" in str(problem)


def test_a_mistake_that_all_arms_of_a_sweep_share_is_told_once(tmp_path: Path) -> None:
    loaded = load_recipe(swept(tmp_path, lora_alpha=8))
    wrong = [Problem(("arms", name, "lora_alpha"), "no") for name in loaded.swept]
    assert len(wrong) == 4
    (told,) = loaded.locate(RecipeError(wrong)).problems
    (line,) = [n for n, x in enumerate((tmp_path / "mine.yaml").read_text().splitlines(), 1) if "lora_alpha: 8" in x]
    assert str(told) == f"mine.yaml:{line}: arms.lora.lora_alpha: no"


def test_a_sweep_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    """Also of what the arm has a value for: the sweep's take its place."""
    given = ["arms.lora.sweep.r=[8]", "arms.full.sweep.learning_rate=[1e-5, 1e-4]"]
    arms = load_recipe(swept(tmp_path), given).recipe.arms
    assert list(arms) == ["original", "lora-r8-q-v", "lora-r8-all-linear", "full-lr1e-5", "full-lr1e-4"]
    assert arms["full-lr1e-5"].learning_rate == 1e-5


def test_the_written_recipe_has_the_arms_and_a_changed_list_is_a_difference(tmp_path: Path) -> None:
    path = swept(tmp_path)
    recipe = load_recipe(path).recipe
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml").recipe == recipe
    resolved = Resolved.model_construct(recipe=recipe.model_dump(mode="json"), directory=str(tmp_path), ranks={})
    assert differences_from_resolved(resolved, load_recipe(path).recipe) == []
    other = load_recipe(path, ["arms.lora.sweep={r: [4, 8], target_modules: [all-linear]}"]).recipe
    assert differences_from_resolved(resolved, other) == [
        "arms.lora-r4-q-v: an arm of lora → (not there)",
        "arms.lora-r16-q-v: an arm of lora → (not there)",
        "arms.lora-r16-all-linear: an arm of lora → (not there)",
        "arms.lora-r8-all-linear: (not there) → an arm of lora",
    ]


@pytest.mark.parametrize(
    ("given", "number"),
    [("2M", 2_000_000), (2_000_000, 2_000_000), ("2_000_000", 2_000_000), ("2.5M", 2_500_000), ("350k", 350_000),
     ("1B", 10**9), ("2e6", 2_000_000), (2e6, 2_000_000), ("2 M", 2_000_000)],
)  # fmt: skip
def test_params_have_units(given: Any, number: int) -> None:
    arm = ArmSpec(**LORA, params=given)
    assert arm.params == number and "params" not in arm.settings
    assert ArmSpec.model_validate(arm.model_dump(mode="json")) == arm


@pytest.mark.parametrize("given", ["2X", "M", "-2M", True, "2m", [2], "0"])
def test_params_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError, match="params"):
        ArmSpec(**LORA, params=given)


def test_params_take_the_place_of_a_rank(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="give either `r`, or the `params`") as caught:
        load_recipe(swept(tmp_path, params="2M"))
    assert len(caught.value.problems) == 1  # for all arms of the sweep
    with pytest.raises(ValueError, match="takes no settings"):
        ArmSpec(method="none", params=5)
    recipe = load_recipe(swept(tmp_path, {"target_modules": [["q"], ["v"]]}, params="2M")).recipe
    solved = with_ranks(recipe, {"lora-q": 7})
    assert solved.arms["lora-q"].settings == {"target_modules": ["q"], "r": 7}
    assert solved.arms["lora-v"] == recipe.arms["lora-v"]
