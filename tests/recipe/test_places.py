"""Paths of a recipe start from its own folder, those of the command line from the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import recipe_values
from tuneoff.errors import RecipeError
from tuneoff.recipe import load_recipe
from tuneoff.recipe.places import same_value


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe in `project`, whose files lie there; the working directory is another."""
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project / "model", project / "data", here):
        folder.mkdir(parents=True)
    for split in ("train", "test"):
        (project / "data" / f"{split}.csv").write_text("dialogue,summary\na,b\n")
    values = recipe_values(project / "data")
    values["model"] = "model"
    values["data"]["source"] = {split: f"data/{split}.csv" for split in ("train", "test")}
    values["evaluation"] |= {"metrics": ["rouge1", "mine:same"], "retain": "data/kept.jsonl"}
    path = project / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    monkeypatch.chdir(here)
    return path


def test_they_start_from_the_folder_of_the_recipe(recipe: Path) -> None:
    project, found = recipe.parent, load_recipe(str(recipe)).recipe
    assert found.model.name == str(project / "model")
    assert found.data.source == {split: str(project / "data" / f"{split}.csv") for split in ("train", "test")}
    assert found.evaluation.retain == str(project / "data" / "kept.jsonl")
    assert found.evaluation.modules == str(project)


def test_those_of_the_command_line_start_from_the_working_directory(recipe: Path) -> None:
    here = Path.cwd()
    (here / "own").mkdir()
    sets = ["model=own", "data.source.test=t.csv", "evaluation.metrics=[mine:same]"]
    found = load_recipe(str(recipe), sets).recipe
    assert found.model.name == str(here / "own")
    assert found.data.source == {"train": str(recipe.parent / "data" / "train.csv"), "test": str(here / "t.csv")}
    assert found.evaluation.modules == str(here)


def test_the_path_of_a_gguf_on_the_command_line_is_one_too(recipe: Path) -> None:
    (Path.cwd() / "q.gguf").write_bytes(b"GGUF")
    recipe.write_text(recipe.read_text().replace("model: model\n", "model: {gguf: other.gguf}\n"))
    model = load_recipe(str(recipe), ["model.gguf=q.gguf"]).recipe.model
    assert (model.name, model.gguf) == (str(Path.cwd()), "q.gguf")


def test_names_of_the_hub_stay_and_what_can_only_be_a_path_does_not(recipe: Path) -> None:
    assert load_recipe(str(recipe), ["model=google/flan-t5-small"]).recipe.model.name == "google/flan-t5-small"
    assert load_recipe(str(recipe), ["model=./gone"]).recipe.model.name == str(Path.cwd() / "gone")
    assert load_recipe(str(recipe), ["model=builtin:dialog-t5-nano"]).recipe.model.name == "builtin:dialog-t5-nano"


def test_what_lies_in_the_working_directory_alone_is_told_and_not_taken(recipe: Path) -> None:
    (recipe.parent / "model").rmdir()
    (Path.cwd() / "model").mkdir()
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(recipe))
    line = next(n for n, text in enumerate(recipe.read_text().splitlines(), start=1) if text == "model: model")
    assert str(raised.value).startswith(f"recipe.yaml:{line}: model.name: there is no {recipe.parent / 'model'}: ")
    assert str(raised.value).endswith("Write ../here/model")


def test_two_spellings_of_one_place_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert same_value("data.source", "link", str(tmp_path / "data"), tmp_path)
    assert same_value("data.source.train", "data", str(tmp_path / "link"), tmp_path)
    assert not same_value("data.source", "data", str(tmp_path / "other"), tmp_path)
    assert not same_value("prompt", "data", str(tmp_path / "data"), tmp_path)
