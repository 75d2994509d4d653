"""Where the model that a recipe names is loaded from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest

from tests.conftest import recipe_values
from tests.gguf_files import llama, tokenizer, write_gguf
from tests.runner.resolving import QUIET
from tuneoff.data import pretrained
from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.data.pretrained import Pins
from tuneoff.errors import ModelError
from tuneoff.recipe import Recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "tiny.Q8_0.gguf", llama(), tokenizer(), "Q8_0")
    return folder


@pytest.fixture
def stored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository org/tiny in the hub's cache: `main` is COMMIT."""
    stored = tmp_path / "models--org--tiny"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text(COMMIT)
    (stored / "blobs").mkdir()
    blob = Path(shutil.copyfile(folder / "tiny.Q8_0.gguf", stored / "blobs" / "cafe"))
    snapshot = stored / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "tiny.Q8_0.gguf").symlink_to(blob)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return stored


def read(data_folder: Path, model: Any, pins: Pins | None = None) -> Inputs:
    values = recipe_values(data_folder, "causal") | {"model": model}
    return read_inputs(Recipe.model_validate(values), None, QUIET, pins)


def test_every_way_to_name_a_gguf_file_is_the_same_model(
    data_folder: Path, folder: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(folder / "tiny.Q8_0.gguf")
    monkeypatch.chdir(folder)
    ways: list[Any] = [
        file, {"gguf": file}, {"name": str(folder), "gguf": "tiny.Q8_0.gguf"}, "tiny.Q8_0.gguf",
        {"name": "org/tiny", "gguf": "tiny.Q8_0.gguf"},
    ]  # fmt: skip
    found = [read(data_folder, way) for way in ways]
    assert len({inputs.model_path for inputs in found}) == 1
    assert all(inputs.tokenizer_path == inputs.model_path for inputs in found)
    assert [inputs.model_revision for inputs in found] == [None, None, None, None, COMMIT]
    assert found[0].gguf is not None and found[0].gguf.weights == "Q8_0 GGUF: weights rounded to 8 bits"
    assert found[0].config.model_type == "llama" and found[0].chat is not None


def test_a_repository_is_read_at_its_pinned_commit(data_folder: Path, stored: Path) -> None:
    model = {"name": "org/tiny", "gguf": "tiny.Q8_0.gguf"}
    first = read(data_folder, model)
    (stored / "refs" / "main").write_text("f" * 40)  # the branch goes on, and the file of then is here alone
    with pytest.raises(ModelError, match=r"cannot load 'tiny.Q8_0.gguf' of the model 'org/tiny'"):
        read(data_folder, model)
    again = read(data_folder, model, Pins(model=first.model_revision))
    assert (again.model_path, again.model_revision) == (first.model_path, COMMIT)


def test_a_file_that_is_not_there_is_told_with_those_that_are(
    data_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"no file 'tiny.Q4.gguf' in .*: the GGUF files there are tiny.Q8_0.gguf$"):
        read(data_folder, {"name": str(folder), "gguf": "tiny.Q4.gguf"})
    with pytest.raises(ModelError, match=r"no file 'tiny.gguf' in .*: no GGUF file is there$"):
        read(data_folder, {"gguf": str(tmp_path / "tiny.gguf")})

    def missing(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: ["b.gguf", "README.md", "a.gguf"])
    with pytest.raises(
        ModelError, match=r"no file 'c.gguf' in org/tiny on the hub: the GGUF files there are a.gguf, b"
    ):
        read(data_folder, {"name": "org/tiny", "gguf": "c.gguf"})


def test_the_published_tokenizer_may_take_the_place_of_the_file_s(
    data_folder: Path, folder: Path, tmp_path: Path
) -> None:
    published = tokenizer()
    published.save_pretrained(tmp_path / "published")
    inputs = read(data_folder, {"gguf": str(folder / "tiny.Q8_0.gguf"), "tokenizer": str(tmp_path / "published")})
    assert inputs.tokenizer_path == str(tmp_path / "published") != inputs.model_path


def test_a_folder_that_is_fetched_is_read_by_its_name_alone(
    data_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "located", lambda *_: str(folder))
    monkeypatch.setattr(pretrained, "gguf_of", lambda _: "tiny.Q8_0.gguf")
    inputs = read(data_folder, {"config": "builtin:tiny"})
    assert inputs.model_path is None and inputs.config.model_type == "llama"
    assert inputs.tokenizer.eos_token_id == tokenizer().eos_token_id
