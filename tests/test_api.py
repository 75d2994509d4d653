"""The Python API on a small run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import PreTrainedModel

import tuneoff
from tests.conftest import PROMPT, dialogue, recipe_values
from tuneoff.errors import DataError, RecipeError, RunFolderError


@pytest.fixture(scope="module")
def results(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuneoff.Results:
    """A run in two parts: LoRA alone, then the rest."""
    values, out = recipe_values(data_folder, layers=1), tmp_path_factory.mktemp("api") / "run"
    part = tuneoff.run(values, out=out, arms=["lora"])
    assert part.comparison.unfinished == ["original/seed-0", "full/seed-0"]
    assert list(part.predictions().arm.unique()) == ["lora"]
    written = (out / "trials/lora/seed-0/result.json").stat().st_mtime_ns
    whole = tuneoff.run(values, out=out)
    assert whole.comparison.unfinished == []
    assert (out / "trials/lora/seed-0/result.json").stat().st_mtime_ns == written  # not run again
    return whole


def test_results_are_what_the_files_say(results: tuneoff.Results) -> None:
    comparison: dict[str, Any] = json.loads((results.folder / "comparison.json").read_text())
    table = results.table()
    assert list(table.index) == ["original", "full", "lora"]
    assert table.loc["full", "rouge1"] == pytest.approx(100 * comparison["arms"][1]["scores"]["rouge1"])
    predictions = results.predictions()
    assert len(predictions) == 3 * 5
    assert predictions[predictions.arm == "lora"].rouge1.mean() == pytest.approx(table.loc["lora", "rouge1"])
    history = results.history()
    assert set(history.arm) == {"full", "lora"} and history.loss.notna().any()
    memory = results.memory()
    trial = json.loads((results.folder / "trials/lora/seed-0/result.json").read_text())
    assert list(memory.index) == ["full", "lora"]
    assert memory.loc["lora"].to_dict() == trial["memory"]["train"]["components"]
    assert "Quality against cost" in results.figures()
    assert results.figures()["Learning"]._repr_html_().startswith("<iframe srcdoc=")
    assert "<table" in results._repr_html_()
    text = repr(results)
    assert text.startswith(str(results.folder)) and "trainable" in text and "e+0" not in text
    assert results.verdict


def test_models_are_plain_and_write_what_their_trials_wrote(results: tuneoff.Results) -> None:
    assert isinstance(results.model("full"), PreTrainedModel)
    assert isinstance(results.model("lora"), PeftModel)
    saved = sorted(path.name for path in (results.folder / "trials/lora/seed-0/model").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(saved)
    assert "README.md" not in saved  # peft's empty form
    written = results.writer("lora").write([{"dialogue": dialogue(200)[0]}])
    lines = (results.folder / "trials" / "lora" / "seed-0" / "predictions.jsonl").read_text().splitlines()
    assert written[0].text == json.loads(lines[0])["prediction"]
    ids = results.tokenizer("lora")("Hello", return_tensors="pt")
    assert results.model("lora").generate(**ids, max_new_tokens=3).shape[0] == 1


def test_a_plan_needs_no_run(data_folder: Path) -> None:
    plan = tuneoff.plan(recipe_values(data_folder, layers=1), devices=["16GB"], sweep="r=2,4")
    assert [arm.arm for arm in plan.arms] == ["original", "full", "lora-r2", "lora-r4"]
    assert plan.arms[1].fits[1].device == "16GB"


def test_examples_are_what_a_run_reads(data_folder: Path) -> None:
    values = recipe_values(data_folder, layers=1)
    train = tuneoff.examples(values, "train", set=["data.limit.train=3"])
    text, summary, _ = dialogue(2)
    assert list(train.columns) == ["id", "input", "prompt", "references"]
    assert len(train) == 3
    assert train.loc[2].to_dict() == {
        "id": "train_2", "input": text, "prompt": PROMPT.format(dialogue=text), "references": [summary],
    }  # fmt: skip
    test = tuneoff.examples(values, "test")
    assert list(test.references) == [list(dialogue(n)[1:]) for n in range(200, 205)]


def test_mistakes_are_tuneoffs_own_errors(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder, layers=1)
    with pytest.raises(RecipeError, match="the recipe has no arm 'loro'; did you mean 'lora'"):
        tuneoff.run(values, out=tmp_path / "run", arms=["loro"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="the recipe's data have no split 'tset'; did you mean 'test'"):
        tuneoff.examples(values, "tset")  # type: ignore[arg-type]
    values["trainin"] = {}
    with pytest.raises(RecipeError, match="did you mean 'training'"):
        tuneoff.plan(values)
    with pytest.raises(RunFolderError, match="holds no run"):
        tuneoff.load(tmp_path)
