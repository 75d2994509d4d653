"""A run on a model that a GGUF file holds: told wherever the model is, used and exported like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.conftest import recipe_values
from tests.gguf_files import TEMPLATE, llama, tokenizer, write_gguf
from tests.runner.resolving import begin, prepare_again, resolved_for
from tests.runner.test_trial import carry_out
from tests.use.test_export import LORA, export, used
from tuneoff.data.tokens import load_tokens
from tuneoff.errors import ModelError, RecipeChangedError
from tuneoff.folder import RunFolder
from tuneoff.recipe import trials
from tuneoff.records import Resolved, read_predictions
from tuneoff.report.page.build import write_report
from tuneoff.runner.finished import Finished
from tuneoff.use.export import verify
from tuneoff.use.writer import Writer

SAID = "tiny.gguf, a Q4_1 GGUF: weights rounded to 4 bits"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "tiny.gguf"
    write_gguf(path, llama(), tokenizer(), "Q4_1")
    return path


@pytest.fixture(scope="module")
def run(data_folder: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder, "causal") | {"model": {"gguf": str(file)}}
    values["arms"] = {"original": {"method": "none"}, "lora": {**LORA, "learning_rate": 0.02}}
    recipe, folder = begin(values, tmp_path_factory.mktemp("runs") / "run")
    resolved = resolved_for(recipe, folder)
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
    return folder


@pytest.fixture
def cached(run: RunFolder) -> Path:
    """The folder that the file was converted to."""
    return Path(Resolved.read(run.resolved).model_path)


def test_the_run_says_what_its_model_is(run: RunFolder) -> None:
    resolved = Resolved.read(run.resolved)
    assert resolved.gguf is not None and resolved.model_sha256 is not None and resolved.model_revision is None
    comparison = write_report(run)
    assert comparison.originals == [f"the original model is {SAID}"]
    assert SAID in (run.path / "report.html").read_text()
    assert SAID.replace("_", "\\_") in (run.path / "report.md").read_text()
    assert "/tiny.gguf on " in (run.path / "report.html").read_text()


def test_what_the_cache_lost_is_made_again(run: RunFolder, cached: Path) -> None:
    before = run.resolved.read_bytes()
    written = [p.prediction for p in read_predictions(run.trial("lora", 0).predictions)]
    shutil.rmtree(cached)
    prepare_again(run)
    assert run.resolved.read_bytes() == before, "the same files, to the byte"
    shutil.rmtree(cached)
    finished = Finished(run, "lora")
    assert [one.text for one in Writer(finished).write(_columns(run))] == written


def _columns(run: RunFolder) -> list[dict[str, Any]]:
    return list(load_tokens(Resolved.read(run.resolved).tokens["test"])["columns"])


def test_an_adapter_brings_the_converted_model_with_it(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = read_predictions(run.trial("lora", 0).predictions)
    written = [p.prediction for p in predictions]
    monkeypatch.setattr(verify, "run_code", lambda *_: written)  # it runs once, below
    out = tmp_path / "out"
    export(run, "lora", out, "adapter")
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    assert (out / "base" / "model.safetensors").is_file()
    rows = [row["dialogue"] for row in _columns(run)]
    assert used(out, rows, monkeypatch) == written
    card = (out / "README.md").read_text()
    assert "license: apache-2.0" in card and "base_model:" not in card
    assert "`base/` holds the original model, converted from `tiny.gguf`" in card
    assert "(`tiny.gguf`, Q4_1 GGUF: weights rounded to 4 bits), fine-tuned by `lora`" in card
    assert "`tiny.gguf` names the licence `apache-2.0`" in card
    assert str(run.path) not in card and str(Path(Resolved.read(run.resolved).model_path)) not in card


def test_what_was_read_from_a_gguf_file_is_written_as_one(run: RunFolder, tmp_path: Path) -> None:
    """By the chat template and under the licence that the file had."""
    printed = export(run, "lora", tmp_path / "out", "gguf-q8_0")
    assert "the same tokens of 5 prompts, the chat template is the same" in printed
    fields = gguf.GGUFReader(tmp_path / "out" / "model.gguf").fields
    found = {name: fields[name].contents() for name in ("general.license", "tokenizer.chat_template", "general.name")}
    assert found == {"general.license": "apache-2.0", "tokenizer.chat_template": TEMPLATE, "general.name": "run-lora"}
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card and "its chat template is the same" in card
    assert "llama-cli -m model.gguf --temp 0 -n 12\n" in card and str(run.path) not in card


def test_another_file_is_another_model(run: RunFolder, file: Path, cached: Path) -> None:
    whole = file.read_bytes()
    try:
        write_gguf(file, llama(), tokenizer(), "Q8_0")
        with pytest.raises(RecipeChangedError, match=r"model .*: sha256 \w{12} → sha256 \w{12}"):
            prepare_again(run)
        Finished(run, "lora").require_whole()  # which the cache still holds
        shutil.rmtree(cached)
        with pytest.raises(ModelError, match="another model than when this run began"):
            Finished(run, "lora").require_whole()
        file.unlink()
        with pytest.raises(ModelError, match=r"there is no file 'tiny.gguf' in"):
            Finished(run, "lora")
    finally:
        file.write_bytes(whole)
