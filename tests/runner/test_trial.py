"""A whole run in this process: prepare, then trials, and what they leave."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tests.conftest import recipe_values, write_jsonl
from tests.runner.resolving import QUIET, begin, resolved_for
from tuneoff.errors import CheckFailedError, DataError, RecipeError
from tuneoff.folder import RunFolder
from tuneoff.model.engines import ENGINES
from tuneoff.model.engines.plain import PlainEngine
from tuneoff.model.saved import save_whole
from tuneoff.recipe import Trial, trials
from tuneoff.records import Resolved, TrialResult, read_predictions, read_times
from tuneoff.runner import training as training_module
from tuneoff.runner.evaluation import TrialEvaluation
from tuneoff.runner.stop import Stop
from tuneoff.runner.training import TrialTraining

CLASSES = {"seq2seq": AutoModelForSeq2SeqLM, "causal": AutoModelForCausalLM}


@dataclass(frozen=True)
class Finished:
    kind: str
    folder: RunFolder
    resolved: Resolved
    results: dict[str, TrialResult]


def carry_out(folder: RunFolder, resolved: Resolved, trial: Trial) -> TrialResult:
    own = folder.trial(trial.arm, trial.seed)
    if trial.arm != "original" and not own.trained.is_file():
        TrialTraining(resolved, trial, own, QUIET, Stop()).run()
    return TrialEvaluation(resolved, trial, own, QUIET, Stop()).run()


@pytest.fixture(scope="module", params=["seq2seq", "causal"])
def finished(request: pytest.FixtureRequest, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    recipe, folder = begin(recipe_values(data_folder, request.param), tmp_path_factory.mktemp(request.param))
    resolved = resolved_for(recipe, folder)
    results = {t.arm: carry_out(folder, resolved, t) for t in trials(recipe)}
    return Finished(request.param, folder, resolved, results)


def test_every_split_is_counted(finished: Finished) -> None:
    data = finished.resolved.data
    assert {split: (s.rows, s.examples, s.references) for split, s in data.items()} == {
        "train": (40, 40, 40), "validation": (6, 6, 6), "test": (10, 5, 10),
    }  # fmt: skip
    assert finished.resolved.model_class == finished.kind


def test_every_arm_did_the_same_work(finished: Finished) -> None:
    full, lora = finished.results["full"].training, finished.results["lora"].training
    assert full is not None
    assert lora is not None
    assert (full.steps, full.examples) == (10, 80)
    assert (full.steps, full.examples, full.target_tokens) == (lora.steps, lora.examples, lora.target_tokens)
    assert len({r.signature for r in finished.results.values()}) == 1
    assert finished.results["full"].signature is not None
    assert "refs:mean-of-2|n:5|split:test" in finished.results["full"].signature


def test_a_result_holds_what_the_documentation_names(finished: Finished) -> None:
    values = json.loads(finished.folder.trial("lora", 0).result.read_text())
    assert values["status"] == "done"
    assert values["parameters"]["total"] > values["parameters"]["trainable"] > 0
    assert {"load", "tokenise", "train", "evaluate", "save"} <= values["seconds"].keys()
    assert values["seconds"]["train"] > 0
    assert sum(values["memory"]["train"]["components"].values()) > 0
    assert set(values["memory"]["train"]["components"]) == {
        "weights", "buffers", "gradients", "optimizer", "activations", "temporary",
    }  # fmt: skip
    assert values["memory"]["evaluate"]["process_peak"] > 0
    assert values["memory"]["process_peak"] >= values["memory"]["training"]["process_peak"] > 0
    assert values["memory"]["training"]["peak"] >= values["memory"]["train"]["peak"]
    assert {"train", "evaluate"} <= values["load"].keys()
    own = finished.folder.trial("lora", 0)
    assert [part.part for part in read_times(own.step_times)] == list(range(1, 11))
    assert [part.warm_up for part in read_times(own.step_times)] == [True, True, *[False] * 8]
    assert sum(part.seconds for part in read_times(own.step_times)) == pytest.approx(
        values["seconds"]["train"], rel=0.2
    )
    # The search of a decoder-only model takes several batches at once.
    parts = [2] if values["engine"] == "decoder" else [1, 2]
    assert [batch.part for batch in read_times(own.batch_times)] == parts
    assert set(values["scores"]["rouge1"]) == {"mean", "best", "first"}
    assert values["environment"]["packages"]["torch"] == torch.__version__
    original = finished.results["original"]
    assert original.memory is not None
    assert (original.memory.train, original.training) == (None, None)
    assert original.parameters is not None
    assert original.parameters.trainable == 0
    documented = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    for name in (*values, *values["seconds"], *values["memory"]["train"], *values["scores"], *values["data"]["test"]):
        assert f"`{name}`" in documented, name


def test_training_changed_the_model_and_its_predictions(finished: Finished) -> None:
    texts = {
        arm: [p.prediction for p in read_predictions(finished.folder.trial(arm, 0).predictions)]
        for arm in finished.results
    }
    assert len(texts["original"]) == 5
    assert texts["original"] != texts["full"]
    history = [json.loads(x) for x in finished.folder.trial("full", 0).history.read_text().splitlines()]
    losses = [line["loss"] for line in history if "loss" in line]
    assert losses[-1] < losses[0]
    assert not finished.folder.trial("full", 0).checkpoints.exists()


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_what_is_saved_serves_plain_transformers_and_peft(finished: Finished, arm: str) -> None:
    """Loaded without this program, one dialogue at a time, it writes the same."""
    saved = finished.folder.trial(arm, 0)
    cls = CLASSES[finished.kind]
    if arm == "lora":
        model = PeftModel.from_pretrained(cls.from_pretrained(finished.resolved.model_path), saved.model)
    else:
        model = cls.from_pretrained(saved.model)
    tokenizer = AutoTokenizer.from_pretrained(saved.model)
    model.eval()
    for prediction in read_predictions(saved.predictions):
        prompt = f"Summarize the following conversation.\n{prediction.input}\nSummary:"
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        written = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
        text = tokenizer.decode(written[ids.shape[1] :] if finished.kind == "causal" else written, True)
        assert text.strip() == prediction.prediction


def test_a_trained_model_is_not_trained_again(finished: Finished) -> None:
    where = finished.folder.trial("full", 0)
    before = where.history.read_text()
    where.result.unlink()
    again = carry_out(finished.folder, finished.resolved, Trial("full", 0))
    assert where.history.read_text() == before
    assert again.scores == finished.results["full"].scores
    assert again.training == finished.results["full"].training


def test_all_wrong_settings_are_told_before_anything_is_trained(data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    values["arms"]["lora"]["rr"] = 3
    values["arms"]["other"] = {"method": "nothing", "learning_rate": 1.0}
    recipe, folder = begin(values, tmp_path)
    with pytest.raises(RecipeError) as caught:
        resolved_for(recipe, folder)
    assert [".".join(p.path) for p in caught.value.problems] == ["arms.lora.rr", "arms.other.method"]


def test_bad_rows_stop_it_with_their_place_or_are_counted(tmp_path: Path) -> None:
    good = {"dialogue": "#Person1#: Hi", "summary": "A greeting."}
    for split in ("train", "test"):
        write_jsonl(tmp_path / "d" / f"{split}.jsonl", [good, {"dialogue": None, "summary": "x"}, good])
    recipe, folder = begin(recipe_values(tmp_path / "d"), tmp_path / "run")
    with pytest.raises(DataError, match=r"split 'train': train.jsonl:2 has null in 'dialogue'"):
        resolved_for(recipe, folder)
    lenient = recipe.model_copy(update={"data": recipe.data.model_copy(update={"on_bad_row": "skip"})})
    resolved = resolved_for(lenient, folder)
    assert resolved.data["train"].skipped_rows == 1
    assert "train: 1 bad rows left out (train.jsonl:2 has null in 'dialogue')" in resolved.warnings
    assert "validation" not in resolved.data


def test_a_save_that_loses_a_tensor_fails_the_trial(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(model: Any, tokenizer: Any, path: Path, start: Path | None = None) -> None:
        save_whole(model, tokenizer, path, start)
        file = path / "adapter_model.safetensors"
        tensors = load_file(file)
        name = next(name for name in tensors if "lora_B" in name)
        save_file({**tensors, name: torch.zeros_like(tensors[name])}, file, metadata={"format": "pt"})

    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved = resolved_for(recipe, folder)
    monkeypatch.setattr(training_module, "save_whole", lossy)
    with pytest.raises(CheckFailedError, match="1 of 24 trained tensors are others when they are loaded again"):
        carry_out(folder, resolved, Trial("lora", 0))
    assert not folder.trial("lora", 0).result.exists()


def test_an_engine_that_computes_something_else_fails_the_trial(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(PlainEngine):
        def loss(self, batch: Any) -> torch.Tensor:
            return 1.01 * super().loss(batch)

    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved = resolved_for(recipe, folder)
    monkeypatch.setitem(ENGINES, "t5", Wrong)
    with pytest.raises(CheckFailedError, match="the engine plain computes something else: its loss on the first step"):
        carry_out(folder, resolved, Trial("full", 0))
