"""What a run is resolved to: all that its trials run by, once; whatever differs later is refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tests.conftest import recipe_values, write_jsonl
from tests.runner.resolving import QUIET, begin, prepare_again, resolved_for
from tuneoff.data import pretrained
from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.errors import ModelError, RecipeChangedError, RecipeError, RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.model import device
from tuneoff.model.base import load_config
from tuneoff.recipe import Recipe, read_recipe, resolved_recipe
from tuneoff.records import Resolved, TrialResult
from tuneoff.runner.claim import claim
from tuneoff.runner.events import Reporter
from tuneoff.runner.finished import Finished


@pytest.fixture(scope="module")
def model_folder(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer, as a user's own folder."""
    recipe, folder = begin(recipe_values(data_folder), tmp_path_factory.mktemp("own"))
    return Path(resolved_for(recipe, folder).model_path)


@pytest.fixture
def own_model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "own-model"))


@pytest.fixture
def own_data(data_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data_folder, tmp_path / "own-data"))


def values_of(own_data: Path, own_model: Path) -> dict[str, Any]:
    return {**recipe_values(own_data), "model": str(own_model)}


def test_nothing_is_left_open(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    values["arms"]["searched"] = {"method": "full", "tune": {"learning_rate": [1e-4, 1e-3]}}
    recipe, folder = begin(values, tmp_path)
    resolved = resolved_for(recipe, folder)
    assert resolved == Resolved.read(folder.resolved)
    assert resolved_recipe(resolved) == recipe
    assert resolved.learning_rates == {"original": None, "full": 1e-2, "lora": 5e-3, "searched": None}
    assert resolved.with_rate("searched", 1e-3).learning_rates["searched"] == 1e-3
    assert resolved.engines.keys() == recipe.arms.keys()
    assert len({engine.name for engine in resolved.engines.values()}) == 1  # `auto`: one for all
    assert resolved.micro_batch == 8
    assert resolved.model_path == resolved.tokenizer_path == str(folder.base)
    assert (resolved.model_revision, resolved.tokenizer_revision) == (None, None)
    assert len({resolved.model_sha256, resolved.tokenizer_sha256, None}) == 3


def test_the_same_run_goes_on_byte_for_byte(own_data: Path, own_model: Path, tmp_path: Path) -> None:
    recipe, folder = begin(values_of(own_data, own_model), tmp_path / "run")
    resolved_for(recipe, folder)
    before = folder.resolved.read_bytes()
    prepare_again(folder)
    assert folder.resolved.read_bytes() == before


def leave(folder: RunFolder, left: str) -> None:
    """What a trial that was killed leaves: a checkpoint, or a trained model, or a result."""
    path = folder.trial("full", 0).path / left
    path.parent.mkdir(parents=True)
    path.write_text("{}")


@pytest.mark.parametrize("left", ["checkpoints/checkpoint-5/x", "trained.json", "result.json"])
def test_changed_data_are_refused_whatever_a_trial_has_left(
    own_data: Path, own_model: Path, tmp_path: Path, left: str
) -> None:
    recipe, folder = begin(values_of(own_data, own_model), tmp_path / "run")
    resolved_for(recipe, folder)
    leave(folder, left)
    before = folder.resolved.read_bytes()
    lines = (own_data / "train.jsonl").read_text().splitlines()
    (own_data / "train.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(RecipeChangedError, match=r"data train: 40 examples, sha256 \w+ → 39 examples, sha256 \w+"):
        prepare_again(folder)
    (own_data / "validation.jsonl").unlink()
    with pytest.raises(RecipeChangedError, match=r"data validation: 6 examples, sha256 \w+ → \(not th") as caught:
        prepare_again(folder)
    assert "data train" in str(caught.value), "everything that differs is told at once"
    assert "Choose another folder with --out" in str(caught.value)
    assert folder.resolved.read_bytes() == before


def test_a_changed_byte_of_the_model_is_refused_with_the_hashes(
    own_data: Path, own_model: Path, tmp_path: Path
) -> None:
    recipe, folder = begin(values_of(own_data, own_model), tmp_path / "run")
    resolved = resolved_for(recipe, folder)
    assert resolved.model_sha256 is not None
    weights = own_model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    was = resolved.model_sha256[:12]
    with pytest.raises(RecipeChangedError, match=rf"model {own_model}: sha256 {was} → sha256 \w{{12}}") as caught:
        prepare_again(folder)
    assert "tokenizer" not in str(caught.value)


def test_a_changed_tokenizer_is_refused(own_data: Path, own_model: Path, tmp_path: Path) -> None:
    recipe, folder = begin(values_of(own_data, own_model), tmp_path / "run")
    resolved_for(recipe, folder)
    file = own_model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 77}))
    with pytest.raises(RecipeChangedError, match=rf"tokenizer {own_model}: sha256 \w{{12}} → sha256 \w{{12}}"):
        prepare_again(folder)


def test_a_base_that_was_built_is_hashed_and_built_again_where_it_is_gone(data_folder: Path, tmp_path: Path) -> None:
    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved_for(recipe, folder)
    before = folder.resolved.read_bytes()
    shutil.rmtree(folder.base)
    prepare_again(folder)
    assert folder.resolved.read_bytes() == before
    (folder.base / "config.json").write_text((folder.base / "config.json").read_text() + "\n")
    with pytest.raises(RecipeChangedError, match=r"model .*base: sha256"):
        prepare_again(folder)


def test_lost_tokens_are_made_again(own_data: Path, own_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    recipe, folder = begin(values_of(own_data, own_model), tmp_path / "run")
    resolved = resolved_for(recipe, folder)
    shutil.rmtree(resolved.tokens["train"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    prepare_again(folder)
    again = Resolved.read(folder.resolved)
    assert again.tokens["train"].startswith(str(tmp_path / "another"))
    assert again.model_copy(update={"tokens": resolved.tokens}) == resolved
    assert again.tokens["test"] == resolved.tokens["test"], "what is still there stays"


class MovingHub:
    """Stands in for a hub whose branch moves: the model of a folder, at a new commit each time a branch is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []
        self.commits = 0

    def load_config(self, name: str, revision: str | None) -> Any:
        self.asked.append(("config", revision))
        config = load_config(str(self.folder), None)
        if revision is None:
            self.commits += 1
        config._commit_hash = revision or f"{self.commits:040d}"
        return config

    def load_tokenizer(self, name: str, revision: str | None) -> Any:
        self.asked.append(("tokenizer", revision))
        return AutoTokenizer.from_pretrained(self.folder)


def test_the_hub_s_branch_is_not_asked_again(
    own_data: Path, own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = MovingHub(own_model)
    monkeypatch.setattr(pretrained, "load_config", hub.load_config)
    monkeypatch.setattr(pretrained, "load_tokenizer", hub.load_tokenizer)
    recipe, folder = begin({**recipe_values(own_data), "model": "some/model"}, tmp_path / "run")
    resolved = resolved_for(recipe, folder)
    assert (resolved.model_revision, resolved.model_sha256) == (f"{1:040d}", None)
    assert (resolved.tokenizer_revision, resolved.tokenizer_sha256) == (f"{1:040d}", None)
    before = folder.resolved.read_bytes()
    hub.asked.clear()
    prepare_again(folder)
    assert hub.asked == [("config", f"{1:040d}"), ("tokenizer", f"{1:040d}")]
    assert folder.resolved.read_bytes() == before


def test_relative_paths_mean_the_same_from_another_working_directory(
    own_data: Path, own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**recipe_values(own_data), "model": "own-model"}
    values["data"]["source"] = {split: f"own-data/{split}.jsonl" for split in ("train", "test")}
    monkeypatch.chdir(tmp_path)
    recipe, folder = begin(values, tmp_path / "run")
    resolved = resolved_for(recipe, folder)
    assert resolved.model_path == str(own_model)
    assert resolved.recipe["data"]["source"]["train"] == str(own_data / "train.jsonl")
    before = folder.resolved.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    claim(folder, read_recipe(folder.recipe).recipe)
    prepare_again(folder)
    assert folder.resolved.read_bytes() == before
    assert read_recipe(folder.recipe).recipe.model.name == "own-model", "recipe.yaml is what the user gave"


def test_another_recipe_is_refused_and_one_that_never_worked_is_replaced(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    recipe, folder = begin(values, tmp_path)
    values["training"]["epochs"] = 3
    other = Recipe.model_validate(values)
    claim(folder, other)  # nothing was resolved
    assert read_recipe(folder.recipe).recipe == other
    claim(folder, recipe)
    resolved_for(recipe, folder)
    claim(folder, recipe)
    with pytest.raises(RecipeChangedError, match=r"training.epochs: 2.0 → 3.0"):
        claim(folder, other)
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs: 2.0", "epochs: 3.0"))
    with pytest.raises(RecipeChangedError, match=r"training.epochs: 2.0 → 3.0"):
        claim(folder, read_recipe(folder.recipe).recipe)  # edited in the run's folder itself
    with pytest.raises(RecipeChangedError, match=r"recipe.yaml, training.epochs: 2.0 → 3.0"):
        claim(folder, recipe)
    folder.resolved.unlink()
    leave(folder, "trained.json")
    with pytest.raises(RecipeChangedError, match=r"no resolved\.json that says what they ran on"):
        claim(folder, recipe)


@pytest.mark.parametrize("first", ["relative", "absolute"])
def test_the_same_files_may_be_spelled_in_another_way(
    own_data: Path, own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = Recipe.model_validate(values_of(own_data, own_model))
    values = {**recipe_values(own_data), "model": "own-model"}
    values["data"]["source"] = "own-data"
    relative = Recipe.model_validate(values)
    recipe, other = (relative, absolute) if first == "relative" else (absolute, relative)
    _, folder = begin(recipe.model_dump(mode="json"), tmp_path / "run")
    resolved_for(recipe, folder)
    claim(folder, other)
    assert read_recipe(folder.recipe).recipe == recipe


def test_a_finished_trial_without_a_resolved_recipe_cannot_be_used(data_folder: Path, tmp_path: Path) -> None:
    """As runs are that an older version made."""
    _, folder = begin(recipe_values(data_folder), tmp_path)
    with pytest.raises(RunFolderError, match="arm full at seed 0 has not finished"):
        Finished(folder, "full")
    done = TrialResult(arm="full", seed=0, status="done", method="full", settings={})
    done.write(folder.trial("full", 0).result)
    with pytest.raises(RunFolderError, match=r"has a finished trial and no resolved\.json.*`tuneoff run .*") as caught:
        Finished(folder, "full")
    assert "\n" not in str(caught.value)


def without_validation(folder: Path) -> dict[str, Any]:
    row = {"dialogue": "#Person1#: Hi", "summary": "A greeting."}
    for split in ("train", "test"):
        write_jsonl(folder / f"{split}.jsonl", [row, row])
    return recipe_values(folder)


def inputs_of(values: dict[str, Any], tmp_path: Path) -> Inputs:
    """Read by the recipe as a run has it: with every default filled in."""
    _, folder = begin(values, tmp_path / "run")
    return read_inputs(read_recipe(folder.recipe).recipe, folder.base, QUIET)


@pytest.mark.parametrize("kind", ["folder", "files", "hub"])
def test_data_without_a_validation_split_have_no_validation_loss(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = without_validation(tmp_path / "data")
    rows = [{"dialogue": "#Person1#: Hi", "summary": "A greeting."}]
    if kind == "files":
        values["data"]["source"] = {s: str(tmp_path / "data" / f"{s}.jsonl") for s in ("train", "test")}
    if kind == "hub":
        values["data"]["source"] = "some/dialogues"
        monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {"train": rows, "test": rows})
    assert inputs_of(values, tmp_path).data.keys() == {"train", "test"}


def test_a_validation_split_that_is_needed_is_asked_for(tmp_path: Path) -> None:
    values = without_validation(tmp_path / "data")
    values["arms"]["full"] = {"method": "full", "tune": {"learning_rate": [1e-3, 1e-2]}}
    with pytest.raises(RecipeError, match=r"arms.full.tune: .* the data have no split 'validation', only t"):
        inputs_of(values, tmp_path)
    values = without_validation(tmp_path / "data")
    values["evaluation"]["split"] = "validation"
    with pytest.raises(RecipeError, match=r"evaluation.split: the data have no split 'validation'"):
        inputs_of(values, tmp_path)
    for key, value in (("keep", "best"), ("eval_steps", 5)):
        values = without_validation(tmp_path / "data")
        values["training"] = {**values.get("training", {}), key: value}
        with pytest.raises(RecipeError, match=rf"training.{key}: .* the data have no split 'validation', only t"):
            inputs_of(values, tmp_path)
    values = without_validation(tmp_path / "data")
    values["data"]["splits"] = {"validation": "dev"}
    with pytest.raises(Exception, match="the data has no split 'dev'"):
        inputs_of(values, tmp_path)


def test_what_a_run_is_told_while_it_is_resolved(data_folder: Path, tmp_path: Path) -> None:
    stream = io.StringIO()
    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved_for(recipe, folder, Reporter(stream))
    phases = [json.loads(line)["text"] for line in stream.getvalue().splitlines() if '"phase"' in line]
    assert phases == ["check", "read data", "tokenise", "build model", "hash model", "score what no model wrote"]


def test_a_run_in_bf16_does_not_go_on_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "pick_precision", lambda *_: device.Precision("fp32", "no bf16 arithmetic"))
    assert device.settled_precision("fp32", "as the recipe says", torch.device("cpu")).name == "fp32"
    with pytest.raises(ModelError, match="the run computes in bf16, and this cpu has no bf16 arithmetic"):
        device.settled_precision("bf16", "as the recipe says", torch.device("cpu"))
