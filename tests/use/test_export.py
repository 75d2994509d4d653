"""`tuneoff export`: each format, used by the code of its own card."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import ANY

import pytest
import torch
from peft import PeftConfig
from typer.testing import CliRunner

from tests.conftest import MODELS, recipe_values
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.cli.main import app
from tuneoff.errors import ExportError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.model.base import build_model, load_model, make_config
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import trials
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.records import read_predictions
from tuneoff.report.card import Verification
from tuneoff.report.card.build import Origin
from tuneoff.runner.finished import Finished
from tuneoff.use.export import adapter, exporting, verify
from tuneoff.use.export.ctranslate2 import convert, write_ctranslate2
from tuneoff.use.export.merged import scored_model, search_config
from tuneoff.use.export.push import push

LORA = {"method": "lora", "learning_rate": 1e-3, "r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
PROMPTS = {"method": "prompt_tuning", "learning_rate": 0.03, "num_virtual_tokens": 2}


def carried_out(values: dict[str, Any], path: Path) -> RunFolder:
    """A finished run, in this process, some of whose prompts are cut."""
    recipe, folder = begin(values, path)
    resolved = resolved_for(recipe, folder)
    assert 0 < resolved.data["test"].truncated_inputs < resolved.data["test"].examples
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
        texts = {p.prediction for p in read_predictions(folder.trial(trial.arm, 0).predictions)}
        assert len(texts) > 1, "that the texts are the trial's would say little"
    return folder


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder)
    values["model"] = "builtin:dialog-t5-nano"  # its output layer is its own, as Flan-T5's is
    values["data"]["max_source_length"] = 64
    values["arms"] = {"full": {"method": "full", "learning_rate": 1e-4}, "lora": LORA, "prompts": PROMPTS}
    return carried_out(values, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def causal_run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder, "causal")
    values["data"]["max_source_length"] = 76
    values["arms"] = {"lora": {**LORA, "learning_rate": 0.02}}
    return carried_out(values, tmp_path_factory.mktemp("causal"))


def export(run: RunFolder, arm: str, to: Path, format: str, *more: str) -> str:
    """What the command prints."""
    arguments = ["export", str(run.path), "--arm", arm, "--to", str(to), "--format", format, *more]
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, TuneoffError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def used(folder: Path, prompts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the code of the card writes: found in the README, run where tuneoff cannot be imported."""
    code = re.search(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert code is not None and "tuneoff" not in code[1]
    names: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "tuneoff", None)
        exec(code[1], names)
    return [names["generate"]({"dialogue": prompt}) for prompt in prompts]


@pytest.mark.parametrize(
    ("format", "arm", "files"),
    [
        ("adapter", "lora", {"adapter_model.safetensors", "adapter_config.json", "base"}),
        ("adapter", "prompts", {"adapter_model.safetensors", "adapter_config.json", "base"}),
        ("merged", "lora", {"model.safetensors", "config.json", "generation_config.json"}),
        ("ctranslate2", "lora", {"model.bin", "config.json"}),
        ("onnx", "full", {"encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx", "config.json"}),
    ],
)
def test_the_code_of_the_card_writes_what_the_trial_wrote(
    run: RunFolder, format: str, arm: str, files: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = read_predictions(run.trial(arm, 0).predictions)
    written = [p.prediction for p in predictions]
    monkeypatch.setattr(verify, "run_code", lambda *_: written)  # it runs once, below
    export(run, arm, tmp_path / "out" / "it", format)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["it"]
    folder = tmp_path / "out" / "it"
    assert files | {"README.md", "export.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert used(folder, [p.input for p in predictions], monkeypatch) == written
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert "/tmp" not in path.read_text(), f"{path.name} names a folder of this machine"


@pytest.mark.parametrize("format", ["adapter", "ctranslate2", "onnx"])
def test_a_decoder_only_model(
    causal_run: RunFolder, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = read_predictions(causal_run.trial("lora", 0).predictions)
    written = [p.prediction for p in predictions]
    monkeypatch.setattr(verify, "run_code", lambda *_: written)
    export(causal_run, "lora", tmp_path / "it", format)
    assert used(tmp_path / "it", [p.input for p in predictions], monkeypatch) == written


def test_it_is_verified_in_a_process_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    printed = export(run, "full", tmp_path / "it", "ctranslate2")
    assert "verified on 5 test examples: 5 outputs are identical to the run's" in printed
    verification = Verification.model_validate(
        json.loads((tmp_path / "it" / "export.json").read_text())["verification"]
    )
    assert (verification.same, verification.empty, verification.agreement) == (5, 0, 1.0)
    assert verification.score == verification.trial_score
    assert verification.first_difference is None


def test_an_adapter_names_its_base_on_the_hub(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "model_origin", lambda *_: Origin("ada/t5", "ada/t5", "7bcac57"))
    adapter.write_adapter(Finished(run, "lora"), tmp_path)
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert (config.base_model_name_or_path, config.revision) == ("ada/t5", "7bcac57")
    assert not (tmp_path / "base").exists()


def test_an_untied_output_layer_is_not_scaled(causal_run: RunFolder, tmp_path: Path) -> None:
    """As Flan-T5's is not. Greedy search is the same either way: the likelihood of a text shows it."""
    import ctranslate2

    tokenizer = load_tokenizer(str(causal_run.base), None)
    model = build_model(make_config({**MODELS["seq2seq"], "vocab_size": 400, "tie_word_embeddings": False})).eval()
    model.config.update({"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0})
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "converted")
    source, target = tokenizer(["Hello Ada"])["input_ids"][0], [50, 60, 70]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([source]), labels=torch.tensor([[*target, 1]])).logits[0]
    expected = logits.log_softmax(-1)[range(4), [*target, 1]].tolist()
    translator = ctranslate2.Translator(str(tmp_path / "converted"))
    tokens = tokenizer.convert_ids_to_tokens
    scored = translator.score_batch([tokens(source)], [tokens(target)])[0].log_probs
    assert scored == pytest.approx(expected, abs=1e-4)


def test_nothing_is_left_of_an_export_that_writes_otherwise(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(verify, "run_code", lambda code, folder, prompts, tell: ["Something else."] * len(prompts))
    with pytest.raises(ExportError, match=r"is not kept: ROUGE-1 is \d+\.\d\d on 5 examples.*First at test_"):
        export(run, "full", tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert not list((tmp_path / "out").iterdir())


def test_the_code_runs_where_it_lies_and_without_tuneoff(tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("hello", encoding="utf-8")
    told = SimpleNamespace(progress=lambda *numbers: seen.append(numbers))
    seen: list[tuple[int, int]] = []
    code = (
        "print('heard')\nword = open('word.txt').read()\ndef generate(prompt):\n    print(1)\n    return word + prompt"
    )
    assert verify.run_code(code, tmp_path, [" é", "\n\x85"], told) == ["hello é", "hello\n\x85"]
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(ExportError, match="does not run, and it is not kept: ModuleNotFoundError: import of tuneoff"):
        verify.run_code("import tuneoff", tmp_path, ["x"], told)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"same": 9, "score": 0.28, "agreement": 0.8}, None),  # rounding
        ({"same": 19, "empty": 1}, "1 of 20 texts are empty"),
        ({"same": 18, "score": 0.24}, None),
        ({"same": 15, "score": 0.24}, "ROUGE-1 is 24.00 on 20 examples, and was 30.00"),
        ({"same": 2, "same_in_fp32": 20, "score": 0.24, "agreement": 0.4}, None),
        ({"same": 9, "agreement": 0.4}, "9 of 20 texts are the same, and they share 40 % of their words"),
    ],
)
def test_what_fails(changed: dict[str, Any], reason: str | None) -> None:
    exact = {
        "split": "test",
        "examples": 20,
        "same": 20,
        "same_in_fp32": None,
        "empty": 0,
        "score": 0.3,
        "trial_score": 0.3,
        "metric": "ROUGE-1",
    }
    found = verify.failure(Verification(**{**exact, "agreement": 1.0, "first_difference": None, **changed}))
    assert found == reason if reason is None else found is not None and found.startswith(reason)


def test_mistakes_are_one_line(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    for arm, to, format, more, message in (
        ("full", "new", "adapter", (), "arm full has no adapter (its method is 'full'); --format merged"),
        ("prompts", "new", "merged", (), "prompt_tuning cannot be merged into the model's weights; --format adapter"),
        ("full", "new", "onx", (), "no format 'onx'; did you mean 'onnx'?"),
        ("ful", "new", "merged", (), "has no arm 'ful'; did you mean 'full'?"),
        ("full", "new", "merged", ("--seed", "3"), "has no seed 3; the choices are: 0"),
        ("full", "taken", "merged", (), "already exists and is not empty"),
        ("full", "taken/x", "merged", (), "already exists and is not empty"),
        ("full", "taken/x/y", "merged", (), "what it is to lie in is a file"),
        ("full", "new", "merged", ("--push", "it"), "--push takes user/name: got 'it'"),
        ("full", "new", "merged", ("--push", "a b/c"), "--push takes user/name: "),
        ("full", "new", "merged", ("--push", "a/b"), "--push needs a token of the hub: `hf auth login`, or HF_TOKEN"),
    ):
        with pytest.raises(TuneoffError) as caught:
            export(run, arm, tmp_path / to, format, *more)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="needs onnx, onnxscript, onnxruntime: pip install onnx onnxscript"):
        export(run, "full", tmp_path / "new", "onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_what_a_format_cannot_follow_is_refused(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's own generation config may steer the search."""
    finished = Finished(run, "lora")
    shutil.copytree(finished.resolved.model_path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(
        '{"decoder_start_token_id": 0, "forced_bos_token_id": 0, "suppress_tokens": [7], "no_repeat_ngram_size": 3}'
    )
    finished.resolved = finished.resolved.model_copy(update={"model_path": str(tmp_path)})
    with pytest.raises(ExportError, match="sets forced_bos_token_id, suppress_tokens, which the code for CTr"):
        write_ctranslate2(finished, tmp_path / "new")
    search = search_config(finished, scored_model(finished))
    assert (search.suppress_tokens, search.no_repeat_ngram_size) == ([7], 0)
    longer = finished.recipe.evaluation.model_copy(update={"search": SearchSpec(min_new_tokens=4)})
    finished.recipe = finished.recipe.model_copy(update={"evaluation": longer})
    assert search_config(finished, scored_model(finished)).min_new_tokens == 4


@pytest.mark.parametrize(
    ("format", "search", "message"),
    [
        (
            "onnx",
            {"num_beams": 4},
            "num_beams 4, which the code for ONNX Runtime does not follow; --format merged or ct",
        ),
        (
            "onnx",
            {"min_new_tokens": 4},
            "min_new_tokens 4, which the code for ONNX Runtime does not follow; --format me",
        ),
        ("ctranslate2", {"num_beams": 2, "length_penalty": 2.0}, "length_penalty 2.0, which the code for CTranslate2"),
        (
            "gguf",
            {"num_beams": 3},
            "num_beams 3, which the code for llama.cpp does not follow; --format merged or ctran",
        ),
        ("gguf-q8_0", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size 3, which the code for llama.cpp does not"),
    ],
)
def test_a_search_that_a_format_does_not_follow_is_refused_before_a_model_is_loaded(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, search: dict[str, Any], message: str
) -> None:
    class Searched(Finished):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            evaluation = self.recipe.evaluation.model_copy(update={"search": SearchSpec(**search)})
            self.recipe = self.recipe.model_copy(update={"evaluation": evaluation})

    monkeypatch.setattr(exporting, "Finished", Searched)
    monkeypatch.setattr("tuneoff.model.base.load_model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr("tuneoff.use.export.merged.load_arm", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(ExportError) as caught:
        export(run, "full", tmp_path / "new", format)
    assert f"evaluation.search.{message}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Hub:
    """Stands in for the hub's API, and records what it is asked for."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def create_repo(self, name: str, **settings: Any) -> str:
        self.asked.append((name, settings))
        return f"https://hub/{name}"

    def upload_folder(self, **settings: Any) -> None:
        self.asked.append(("upload", settings))


def test_it_is_pushed_when_that_is_asked_for(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    predictions = read_predictions(run.trial("full", 0).predictions)
    monkeypatch.setattr(verify, "run_code", lambda *_: [p.prediction for p in predictions])
    export(run, "full", tmp_path / "kept", "merged")
    assert not Hub.asked
    printed = export(run, "full", tmp_path / "it", "merged", "--push", "ada/it")
    assert printed.endswith("pushed to https://hub/ada/it\n")
    assert Hub.asked == [
        ("ada/it", {"private": True, "exist_ok": True}),
        ("upload", {"repo_id": "ada/it", "folder_path": tmp_path / "it", "commit_message": ANY}),
    ]


def test_what_cannot_be_pushed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = f"{tmp_path} is whole; to try again: hf upload --private ada/it {tmp_path}"
    with pytest.raises(ExportError) as caught:  # offline, as all tests are
        push(tmp_path, "ada/it", "it")
    assert "offline" in str(caught.value) and again in str(caught.value) and "\n" not in str(caught.value)


def test_an_adapter_on_tied_weights_is_not_merged(data_folder: Path, tmp_path: Path) -> None:
    """The output layer is the embedding: merging would change both. The adapter apart is exact."""
    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved = resolved_for(recipe, folder)
    model = load_model(resolved.model_path, None, "seq2seq", torch.float32)
    settings = {"r": 2, "target_modules": ["lm_head"]}
    adapt(model, "lora", settings, "seq2seq", steps=1).save_pretrained(folder.trial("lora", 0).model)
    finished: Any = SimpleNamespace(
        name="lora", spec=recipe.arms["lora"], resolved=resolved, trial=folder.trial("lora", 0),
        result=SimpleNamespace(precision="fp32"),
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"lm_head cannot be merged: its weights are shared .*--format adapter") as e:
        scored_model(finished)
    assert "\n" not in str(e.value)
