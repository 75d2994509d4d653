"""What a trial would fail at is told before any is trained."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TARGETS, recipe_values
from tuneoff.data.inputs import read_inputs
from tuneoff.errors import CheckFailedError, Problem
from tuneoff.model.device import Precision
from tuneoff.model.engines import choose_engines
from tuneoff.recipe import Recipe
from tuneoff.runner import rehearsal
from tuneoff.runner.events import Reporter
from tuneoff.runner.rehearsal import rehearse
from tuneoff.train.checks import TrialChecks

QUIET = Reporter(io.StringIO())


def problems(data_folder: Path, kind: str, arm: dict[str, Any], **training: Any) -> list[Problem]:
    values = recipe_values(data_folder, kind)
    values["arms"] = {"original": {"method": "none"}, "arm": {"learning_rate": 1e-3, **arm}}
    values["training"] |= training
    recipe = Recipe.model_validate(values)
    inputs = read_inputs(recipe, None, QUIET)
    engines = choose_engines(inputs.config, recipe.arms, recipe.training)
    found, warnings = rehearse(recipe, inputs, engines, Precision(recipe.training.precision, ""), QUIET)
    assert not warnings
    return found


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize(
    "arm",
    [
        {"method": "full"},
        {"method": "lora", "r": 4, "use_dora": True},
        {"method": "ln_tuning"},
        {"method": "prefix_tuning", "num_virtual_tokens": 4},
        {"method": "lora", "r": 4, "init_lora_weights": "pissa_niter_4"},
    ],
    ids=lambda arm: arm.get("init_lora_weights") or ("dora" if arm.get("use_dora") else arm["method"]),
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_works_has_no_problem(data_folder: Path, kind: str, arm: dict[str, Any], precision: str) -> None:
    if arm["method"] == "lora":
        arm = {**arm, "target_modules": TARGETS[kind]}
    assert problems(data_folder, kind, arm, precision=precision) == []


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_texts_longer_than_those_of_a_rehearsal_cause_no_warning(
    data_folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = recipe_values(data_folder, kind)
    values["arms"] = {"original": {"method": "none"}}
    values["training"] |= {"engine": "plain"}
    values["evaluation"] |= {"search": {"min_new_tokens": rehearsal.NEW_TOKENS + 3}}
    recipe = Recipe.model_validate(values)
    inputs = read_inputs(recipe, None, QUIET)
    engines = choose_engines(inputs.config, recipe.arms, recipe.training)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*length")
        assert rehearse(recipe, inputs, engines, Precision("fp32", ""), QUIET) == ([], [])
    assert not caplog.records


def test_a_schedule_of_a_method_is_judged_by_the_steps_of_the_run(data_folder: Path) -> None:
    """AdaLoRA's budget moves between tinit and total_step − tfinal, and total_step is the run's."""
    arm = {"method": "adalora", "init_r": 4, "target_r": 2, "tinit": 10, "tfinal": 20, "target_modules": ["q", "v"]}
    assert problems(data_folder, "seq2seq", arm, max_steps=48) == []
    (problem,) = problems(data_folder, "seq2seq", arm, max_steps=20)
    assert problem.path == ("arms", "arm")
    assert "schedule values" in problem.message and "\n" not in problem.message


def test_a_schedule_of_a_method_must_have_room_in_a_try_too(data_folder: Path) -> None:
    arm = {"method": "adalora", "init_r": 4, "target_r": 2, "tinit": 10, "tfinal": 20, "target_modules": ["q", "v"],
           "learning_rate": None, "tune": {"learning_rate": [1e-3, 2e-3]}}  # fmt: skip
    (problem,) = problems(data_folder, "seq2seq", arm, max_steps=48, tune_steps=12)
    assert "schedule values" in problem.message
    assert problems(data_folder, "seq2seq", arm, max_steps=48, tune_steps=40) == []


def test_prefix_tuning_under_activation_checkpointing_is_told_beforehand(data_folder: Path) -> None:
    arm = {"method": "prefix_tuning", "num_virtual_tokens": 4}
    (problem,) = problems(data_folder, "seq2seq", arm, activation_checkpointing=True)
    assert problem.path == ("arms", "arm")
    assert "\n" not in problem.message


def test_a_package_that_a_method_needs_is_told(data_folder: Path) -> None:
    pytest.importorskip("peft")
    try:
        import sklearn  # noqa: F401
    except ImportError:
        (problem,) = problems(data_folder, "causal", {"method": "adamss", "target_modules": ["q_proj"]})
        assert "scikit-learn" in problem.message
    else:
        pytest.skip("scikit-learn is here")


def test_a_check_that_fails_is_told_with_what_was_found(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: TrialChecks) -> None:
        raise CheckFailedError("its loss is 2, and plain transformers has 1")

    monkeypatch.setattr(rehearsal.TrialChecks, "first_step", fails)
    (problem,) = problems(data_folder, "causal", {"method": "full"})
    assert str(problem) == (
        "arms.arm: would fail, as a rehearsal on a copy of the model did: its loss is 2, and plain transformers has 1"
    )


def test_a_large_model_is_rehearsed_with_few_layers(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SMALL", 0)
    assert problems(data_folder, "causal", {"method": "lora", "r": 4, "target_modules": ["q_proj"]}) == []
    arm = {"method": "lora", "r": 4, "target_modules": ["q_proj"], "layers_to_transform": [1]}
    assert problems(data_folder, "causal", arm) == []  # the copy has no such layer, and the model does
