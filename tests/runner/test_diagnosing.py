"""Finished runs, diagnosed: their updates, and losses of variants of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import recipe_values, write_jsonl
from tests.runner.resolving import QUIET, begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.data.batches import collator_for
from tuneoff.data.retained import retained_texts
from tuneoff.data.tokens import IGNORED, load_tokens
from tuneoff.decode.likelihood import row_losses
from tuneoff.errors import DataError, DoesNotFitError, RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.model.base import load_model
from tuneoff.model.device import Precision
from tuneoff.model.engines import engine_for
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.progress import Unheard
from tuneoff.recipe import recipe_of, trials
from tuneoff.recipe.diagnose import DiagnoseSpec
from tuneoff.records import Diagnosis, Parameters, Resolved, TrialResult, UpdateLosses, read_history
from tuneoff.report.comparison import compare
from tuneoff.report.diagnosis import diagnosis_lines, energy_held
from tuneoff.report.forgotten import forgotten_sentences
from tuneoff.report.page import write_report
from tuneoff.runner.diagnosed import is_diagnosed
from tuneoff.runner.diagnosing import diagnose_run, stored_dtype
from tuneoff.runner.finished import Finished

SPEC = {"ranks": [1, 3, 10_000], "scales": [0.5], "examples": 4}


def finished_run(data_folder: Path, path: Path, kind: str, **changes: Any) -> RunFolder:
    values = {**recipe_values(data_folder, kind), "diagnose": SPEC, **changes}
    if "lora" in values["arms"]:
        values["arms"]["dora"] = {**values["arms"]["lora"], "use_dora": True, "r": 2}
    recipe, folder = begin(values, path / "run")
    resolved = resolved_for(recipe, folder)
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
    return folder


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(data_folder, tmp_path_factory.mktemp("diagnosed"), "seq2seq")


@pytest.fixture(scope="module", params=["seq2seq", "causal"])
def diagnosed(
    request: pytest.FixtureRequest, run: RunFolder, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run of either kind of model that has been diagnosed."""
    own = tmp_path_factory.mktemp(request.param)
    if request.param == "seq2seq":
        folder = RunFolder(shutil.copytree(run.path, own / "run"))
    else:
        folder = finished_run(data_folder, own, request.param)
    diagnose_run(folder, QUIET)
    return folder


def cut_losses(folder: RunFolder, rank: int) -> list[float]:
    """The losses of the original model with full's update cut to a rank by a whole decomposition of each matrix."""
    resolved = Resolved.read(folder.resolved)
    paths = folder.base, folder.trial("full", 0).model
    before, after = (load_model(str(path), None, resolved.model_class, torch.float32) for path in paths)
    weights = dict(after.named_parameters())
    for name, old in before.named_parameters():
        update = (weights[name] - old).detach()
        if update.dim() == 2:
            u, s, v = torch.linalg.svd(update.double(), full_matrices=False)
            update = ((u[:, :rank] * s[:rank]) @ v[:rank]).float()
        old.data += update
    return losses_of(folder, before)[0]


def losses_of(folder: RunFolder, model: Any) -> tuple[list[float], int]:
    """The losses of a model, or of one in a folder, on the run's first four validation rows; their target tokens."""
    resolved = Resolved.read(folder.resolved)
    if isinstance(model, Path):
        model = load_model(str(model), None, resolved.model_class, torch.float32)
    rows = list(load_tokens(resolved.tokens["validation"]))[:4]
    collate = collator_for(model, load_tokenizer(resolved.tokenizer_path, None), resolved.model_class)
    engine = engine_for(resolved.engines["full"].name, model, bf16=False)
    return row_losses(engine, collate, rows, 4), sum(label != IGNORED for row in rows for label in row["labels"])


def test_without_an_update_the_losses_are_the_original_s_and_with_all_of_it_the_arm_s(diagnosed: RunFolder) -> None:
    full = UpdateLosses.read(diagnosed.trial("full", 0).losses)
    assert [(v.kind, v.value) for v in full.variants] == [
        ("scale", 0), ("scale", 1), ("scale", 0.5), ("cut", 1), ("cut", 3), ("cut", 10_000),
    ]  # fmt: skip
    original, tokens = losses_of(diagnosed, diagnosed.base)
    trained, _ = losses_of(diagnosed, diagnosed.trial("full", 0).model)
    assert sum(full.validation_tokens) == tokens
    by_scale = {v.value: v.validation for v in full.variants if v.kind == "scale"}
    assert by_scale[0] == pytest.approx(original, rel=1e-5) and by_scale[1] == pytest.approx(trained, rel=1e-5)
    assert sum(trained) < sum(by_scale[0.5]) < sum(original)
    cuts = {v.value: v.validation for v in full.variants if v.kind == "cut"}
    assert cuts[10_000] == by_scale[1]  # to the last digit: no matrix has so many rows
    assert cuts[3] == pytest.approx(cut_losses(diagnosed, 3), rel=1e-4)
    for arm in ("lora", "dora"):
        other = UpdateLosses.read(diagnosed.trial(arm, 0).losses)
        assert [(v.kind, v.value) for v in other.variants] == [("scale", 0), ("scale", 1), ("scale", 0.5)]
        assert other.variants[0] == full.variants[0]  # to the last digit
        assert other.variants[1].validation != full.variants[1].validation


def test_an_adapter_s_losses_are_those_that_its_training_ended_with(diagnosed: RunFolder) -> None:
    spec = recipe_of(diagnosed).diagnose
    assert spec is not None
    folder = RunFolder(shutil.copytree(diagnosed.path, diagnosed.path.parent / "all"))
    values = Resolved.read(folder.resolved)
    everything = {**values.recipe, "diagnose": {**SPEC, "examples": 6, "ranks": [], "scales": []}}
    values.model_copy(update={"recipe": everything}).write(folder.resolved)
    diagnose_run(folder, QUIET)
    for arm in ("full", "lora"):
        found = UpdateLosses.read(folder.trial(arm, 0).losses)
        history = [line["eval_loss"] for line in read_history(folder.trial(arm, 0).history) if "eval_loss" in line]
        trained = sum(found.variants[1].validation) / sum(found.validation_tokens)
        assert trained == pytest.approx(history[-1], rel=1e-4)


def test_what_was_retained_is_in_the_result(diagnosed: RunFolder) -> None:
    for arm in ("full", "lora"):
        losses, result = (
            UpdateLosses.read(diagnosed.trial(arm, 0).losses),
            TrialResult.read(diagnosed.trial(arm, 0).result),
        )
        assert result.retained is not None and result.retained.texts == len(losses.texts.tokens) == 60
        before, after = (sum(losses.variants[n].retained) / sum(losses.texts.tokens) for n in (0, 1))
        retained = result.retained
        assert (retained.before, retained.after) == pytest.approx((before, after))
        assert retained.difference.value == pytest.approx(after - before)
        assert retained.difference.low < after - before < retained.difference.high


def test_it_is_diagnosed_once_and_again_when_the_recipe_asks_for_something_else(
    run: RunFolder, copy: RunFolder, tmp_path: Path
) -> None:
    recipe = recipe_of(copy)
    assert not is_diagnosed(run, recipe) and not is_diagnosed(copy, recipe)
    diagnose_run(copy, QUIET)
    assert is_diagnosed(copy, recipe)
    assert not is_diagnosed(copy, recipe.model_copy(update={"diagnose": DiagnoseSpec(ranks=[2])}))
    write_jsonl(tmp_path / "own.jsonl", [{"text": "a text of my own"}, {"text": "and another one"}])
    own = recipe.evaluation.model_copy(update={"retain": str(tmp_path / "own.jsonl")})
    assert not is_diagnosed(copy, recipe.model_copy(update={"evaluation": own}))
    copy.trial("dora", 0).losses.unlink()
    assert not is_diagnosed(copy, recipe)


def test_one_s_own_texts_are_scored_in_the_place_of_those_that_ship(copy: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    write_jsonl(path, [{"text": "The lamp is on the table."}, {"input": "2 + 2 =", "target": "4 and no more"}])
    values = Resolved.read(copy.resolved)
    evaluation = {**values.recipe["evaluation"], "retain": str(path)}
    values.model_copy(update={"recipe": {**values.recipe, "evaluation": evaluation}}).write(copy.resolved)
    diagnose_run(copy, QUIET)
    found = UpdateLosses.read(copy.trial("full", 0).losses)
    assert found.texts.conditioned == ["rest", "target"] and found.texts.source == str(path)
    assert [len(v.retained) for v in found.variants] == [2] * 3 + [0] * 3
    assert [sorted(v.scores) for v in found.variants] == [["rouge1", "rouge2", "rougeL"]] * 2 + [[]] * 4
    told = compare(copy)[0].forgotten
    assert told is not None and list(told.scores) == ["original", "full", "lora", "dora"]
    assert told.scores["original"] == found.variants[0].scores and told.scores["full"] == found.variants[1].scores
    write_report(copy)
    assert "What was written for the 1 retained inputs that have a target" in copy.report.read_text(encoding="utf-8")
    path.unlink()
    with pytest.raises(DataError, match=r"own\.jsonl: cannot read"):
        diagnose_run(copy, QUIET)


def test_a_model_trained_on_noise_forgets_more_than_one_that_is_almost_frozen(
    data_folder: Path, tmp_path: Path
) -> None:
    """The rows' targets are drawn letters; the model knows the texts that ship, on which it has been trained."""
    texts = [{"dialogue": text.text[:80], "summary": text.text[80:200]} for text in retained_texts(None)]
    folders = {}
    for name, rows in (("known", texts), ("noise", [{**row, "summary": "x q z j " * 8} for row in texts])):
        folders[name] = tmp_path / name
        for split in ("train", "validation", "test"):
            few = rows if split == "train" else rows[:4]
            write_jsonl(folders[name] / f"{split}.jsonl", [{**row, "id": f"{split}{n}"} for n, row in enumerate(few)])
    values = recipe_values(folders["known"], "causal")
    values["data"]["allow_overlap"] = True
    values["arms"] = {"full": values["arms"]["full"]}
    recipe, first = begin(values, tmp_path / "first")
    resolved = resolved_for(recipe, first)
    carry_out(first, resolved, trials(recipe)[0])
    again = {**recipe_values(folders["noise"], "causal"), "model": str(first.trial("full", 0).model)}
    again["data"]["allow_overlap"] = True
    full = again["arms"]["full"]
    again["arms"] = {"noise": full, "frozen": {**full, "learning_rate": 1e-9}}
    recipe, second = begin(again, tmp_path / "second")
    resolved = resolved_for(recipe, second)
    for trial in trials(recipe):
        carry_out(second, resolved, trial)
    diagnose_run(second, QUIET)
    noise, frozen = (TrialResult.read(second.trial(arm, 0).result).retained for arm in ("noise", "frozen"))
    assert noise is not None and frozen is not None
    assert noise.difference.low > 0.05
    assert abs(frozen.difference.value) < 1e-4


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run.path, tmp_path / "copy"))


def weights(folder: RunFolder, arm: str) -> dict[str, torch.Tensor]:
    path = folder.base if arm == "original" else folder.trial(arm, 0).model
    return load_file(path / "model.safetensors")


def test_every_arm_that_trained_has_the_spectrum_of_its_own_update(copy: RunFolder) -> None:
    found = diagnose_run(copy, QUIET)
    assert [(d.arm, d.refused) for d in found] == [("full", None), ("lora", None), ("dora", None)]
    assert [Diagnosis.read(copy.trial(d.arm, 0).diagnosis) for d in found] == found
    full, lora, _ = found
    before, after = weights(copy, "original"), weights(copy, "full")
    for matrix in full.modules:
        update = (after[matrix.name] - before[matrix.name]).double()
        assert matrix.relative_norm == pytest.approx(float(update.norm() / before[matrix.name].norm()), rel=1e-4)
        values = torch.linalg.svdvals(update)
        assert matrix.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-4)
        assert matrix.overlap is None
    assert sum(m.share for m in full.modules) + full.vectors == pytest.approx(1)
    assert {m.kind for m in lora.modules} == {"q", "v"}
    assert all(m.rank90 <= 4 and m.energy[4] == pytest.approx(1, abs=1e-3) for m in lora.modules)  # r=4
    assert lora.vectors < 1e-6 and lora.unchanged > 0
    overlaps = [m.overlap for m in lora.modules]
    assert all(o is not None and o.random == o.directions / 32 and 0 <= o.value <= 1 for o in overlaps)


def test_the_table_has_a_row_for_each_kind_in_80_columns(run: RunFolder, copy: RunFolder) -> None:
    full, lora, _ = diagnose_run(copy, QUIET)
    lines = diagnosis_lines(full)
    assert all(len(line) <= 80 for found in (full, lora) for line in diagnosis_lines(found)), lines
    assert [line.split()[0] for line in lines[3:10]] == ["q", "k", "v", "o", "gate", "up", "down"]
    total = sum(m.share for m in full.modules)
    held = sum(m.share * m.energy.get(8, 1.0) for m in full.modules) / total
    assert energy_held(full.modules, 8) == pytest.approx(held)
    assert f"8: {100 * held:.0f} %" in "\n".join(lines)
    assert "of full's strongest directions it has" in diagnosis_lines(lora)[-1]


def test_weights_of_a_coarse_file_are_refused(copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy.trial("full", 0).model / "model.safetensors"
    before, after = weights(copy, "original"), weights(copy, "full")
    near = {name: before[name] + 1e-3 * (after[name] - before[name]) for name in after}
    save_file({name: value.to(torch.bfloat16) for name, value in near.items()}, path, metadata={"format": "pt"})
    assert stored_dtype(path.parent) == torch.bfloat16
    full, lora, _ = diagnose_run(copy, QUIET)
    assert full.refused is not None and "does not hold what was trained" in full.refused
    assert lora.refused is None and TrialResult.read(copy.trial("lora", 0).result).retained is not None
    assert TrialResult.read(copy.trial("full", 0).result).retained is None
    told = compare(copy)[0].forgotten
    assert told is not None and list(told.by_kind) == ["lora", "dora"]
    monkeypatch.setattr("tuneoff.runner.finished.require_saved", lambda *_: None)
    full = diagnose_run(copy, QUIET)[0]
    assert [v.value for v in UpdateLosses.read(copy.trial("full", 0).losses).variants] == [0, 1, 0.5]  # nothing is cut
    assert full.refused is not None and "stored in bfloat16" in full.refused
    assert diagnosis_lines(full) == [f"full at seed 0: not diagnosed, {full.refused}"]


def test_what_has_no_update_of_weights_says_so(copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.runner.diagnosing.can_merge", lambda _: False)
    full, lora, _ = diagnose_run(copy, QUIET)
    assert full.refused is None
    assert lora.refused == "what lora trains is no update of the model's weights"
    assert json.loads(copy.trial("lora", 0).diagnosis.read_text())["modules"] == []
    losses = UpdateLosses.read(copy.trial("lora", 0).losses)
    assert losses.refused == lora.refused and [v.value for v in losses.variants] == [0, 1]
    assert losses.variants[0].retained != losses.variants[1].retained


def test_losses_are_of_fp32_weights_whatever_the_run_computes_in(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight rounded to bf16 has lost most of a small update."""
    diagnose_run(copy, QUIET)
    before = UpdateLosses.read(copy.trial("full", 0).losses).variants
    monkeypatch.setattr(Finished, "precision", Precision("bf16", "as the recipe says"))
    diagnose_run(copy, QUIET)
    assert UpdateLosses.read(copy.trial("full", 0).losses).variants == before


def test_a_method_without_an_update_of_weights_is_scored_as_it_is(data_folder: Path, tmp_path: Path) -> None:
    arms = {
        "original": {"method": "none"},
        "prompt": {"method": "prompt_tuning", "learning_rate": 0.3, "num_virtual_tokens": 4},
    }
    folder = finished_run(data_folder, tmp_path, "causal", arms=arms)
    (found,) = diagnose_run(folder, QUIET)
    assert found.refused == "what prompt_tuning trains is no update of the model's weights"
    losses = UpdateLosses.read(folder.trial("prompt", 0).losses)
    assert [v.value for v in losses.variants] == [0, 1]
    assert losses.variants[0].retained != losses.variants[1].retained
    (sentence,) = forgotten_sentences(compare(folder)[0].forgotten, None)  # type: ignore[arg-type]
    assert sentence.startswith("prompt ")
    write_report(folder)


def test_an_arm_that_changed_vectors_alone_has_no_table() -> None:
    assert diagnosis_lines(Diagnosis(arm="norms", seed=0, vectors=1.0, floor=0.0)) == [
        "norms at seed 0: no matrix has changed, norms and biases alone"
    ]


def test_a_model_larger_than_the_memory_is_refused_in_one_line(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = TrialResult.read(copy.trial("full", 0).result)
    large = result.model_copy(update={"parameters": Parameters(trainable=1, total=8 * 2**30)})
    large.write(copy.trial("full", 0).result)
    monkeypatch.setattr("tuneoff.runner.diagnosing.host_memory", lambda: 24 * 2**30)
    told = (
        "holds the model in fp32, 32.00 GiB, and this machine has 24.00 GiB: `tuneoff diagnose` on a larger one does it"
    )
    with pytest.raises(DoesNotFitError, match=re.escape(told)):
        diagnose_run(copy, QUIET)


def test_what_a_killed_diagnosis_left_is_removed_and_nothing_is_left_by_one_that_ended(copy: RunFolder) -> None:
    (copy.path / ".diagnosis-old").mkdir()
    (copy.path / ".diagnosis-old" / "before.safetensors").write_text("weights")
    held: list[list[str]] = []

    class Watching(Unheard):
        def phase(self, name: str) -> None:
            held.append([path.name for path in copy.path.glob(".diagnosis-*")])

    diagnose_run(copy, Watching())
    assert {len(names) for names in held} == {1} and ".diagnosis-old" not in {name for names in held for name in names}
    assert list(copy.path.glob(".diagnosis-*")) == []


def test_a_run_without_a_trained_arm_is_refused(tmp_path: Path, copy: RunFolder) -> None:
    for arm in ("full", "lora", "dora"):
        copy.trial(arm, 0).result.unlink()
    with pytest.raises(RunFolderError, match="no finished trial that trained: there is nothing to diagnose"):
        diagnose_run(copy, QUIET)
    with pytest.raises(RunFolderError):
        diagnose_run(RunFolder(tmp_path / "nothing"), QUIET)
