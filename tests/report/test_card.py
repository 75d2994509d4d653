"""The model card of an export: metadata that the hub reads, and a text that says what was measured."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.report.made import made_run
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, read_recipe
from tuneoff.records import GgufFile, Resolved, TrialResult
from tuneoff.report.card import Difference, Exported, ReadBack, Usage, Verification, model_card, usage_code

FORMATS = ("adapter", "merged", "ctranslate2", "onnx", "gguf", "gguf-q8_0")
VERIFICATION = Verification(
    split="test", examples=20, same=18, same_in_fp32=20, empty=0, metric="ROUGE-1", score=0.7012, trial_score=0.7034,
    agreement=0.97,
    first_difference=Difference(id="test_7", trial="#Person1# pays *5*", export="#Person1# pays\n6 <b>|x|</b>"),
)  # fmt: skip

READ = ReadBack(file="model.gguf", type="Q8_0", tensors=21, texts=60, template=True, composes=True)


def usage(format: str = "merged", **changed: Any) -> Usage:
    values: dict[str, Any] = {
        "format": format, "model_class": "seq2seq", "template": "Sum:\n{dialogue}", "columns": ["dialogue"],
        "input": "dialogue", "example": "A: x", "truncate": None, "chat": None, "day": "", "same_day": None,
        "fast": True, "max_source_length": 512,
        "max_new_tokens": 64, "num_beams": 1, "added_end": 0, "ends": [1],
        "start": 0, "dtype": "bfloat16", "base": None, "revision": None,
    }  # fmt: skip
    return Usage(**{**values, **changed})


def card(
    folder: RunFolder, arm: str, format: str = "merged", code: str = "print()", commits: Any = (), **changed: Any
) -> ModelCard:
    """The card of an export of `arm`, as the hub reads it; parts of the recipe, and pinned `commits`, are changed."""
    recipe: Recipe = read_recipe(folder.recipe).recipe
    recipe = recipe.model_copy(update=changed)
    resolved = Resolved.read(folder.resolved)
    pinned = {"recipe": recipe.model_dump(mode="json"), **dict(commits)}
    resolved.model_copy(update=pinned).write(folder.resolved)
    exported = Exported(
        format=format, run="demo", arm=arm, seed=0, created="2026-11-25", versions={"peft": "0.18"},
        verification=None if format == "gguf-q8_0" else VERIFICATION, read_back=READ if "gguf" in format else None,
        runtime="llama-cpp-python" if "gguf" in format else None,
    )  # fmt: skip
    result = TrialResult.read(folder.trial(arm, 0).result)
    return ModelCard(model_card(folder, recipe, result, exported, code))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return made_run(tmp_path / "run")


def test_the_hub_reads_what_is_known(folder: RunFolder) -> None:
    recipe = read_recipe(folder.recipe).recipe
    hub = {
        "model": recipe.model.model_copy(update={"name": "google/flan-t5-base", "config": None, "tokenizer": None}),
        "data": recipe.data.model_copy(update={"source": "knkarthick/dialogsum"}),
    }
    commits = {"model_revision": "7bcac57", "model_sha256": None, "data_revision": "c0ffee1"}
    made = card(folder, "lora", "adapter", commits=commits, **hub)
    data = made.data
    assert (data.base_model, data.datasets) == ("google/flan-t5-base", ["knkarthick/dialogsum"])
    assert (data.library_name, data.pipeline_tag, data.metrics) == ("peft", "summarization", ["rouge"])
    assert data.tags == ["tuneoff", "lora", "adapter"]
    assert data.license is None and data.language is None
    scores = TrialResult.read(folder.trial("lora", 0).result).scores
    assert scores is not None
    assert {r.metric_type: r.metric_value for r in data.eval_results} == {
        metric: round(100 * scores.metrics[metric].mean, 2) for metric in ("rouge1", "rouge2", "rougeL")
    }
    first = data.eval_results[0]
    assert (first.dataset_type, first.dataset_split) == ("knkarthick/dialogsum", "test")
    assert (first.dataset_revision, first.metric_args) == ("c0ffee1", {"signature": "metric:rouge_score|n:60|seed:0"})
    assert (
        "`google/flan-t5-base` at `7bcac57`, fine-tuned by `lora` on `knkarthick/dialogsum` at `c0ffee1`" in made.text
    )


def test_what_is_not_on_the_hub_is_not_called_so(folder: RunFolder) -> None:
    made = card(folder, "lora", "adapter")
    assert made.data.base_model is None and made.data.datasets is None
    assert "A model of random weights, fine-tuned by `lora` on `run`.\nThis is the adapter alone." in made.text
    assert "`base/` holds the original model" in made.text
    assert str(folder.path.parent) not in made.content
    recipe = read_recipe(folder.recipe).recipe
    shipped = {
        "model": recipe.model.model_copy(update={"name": "builtin:dialog-t5-nano", "config": None, "tokenizer": None}),
        "data": recipe.data.model_copy(update={"source": "builtin:everyday"}),
    }
    made = card(folder, "full", **shipped)
    assert made.data.base_model is None and made.data.datasets is None
    assert (made.data.license, made.data.language) == ("cc-by-sa-4.0", "en")
    assert "what is made of them has the same licence" in made.text


def test_a_model_of_a_gguf_file_is_told_as_what_it_is(folder: RunFolder) -> None:
    recipe = read_recipe(folder.recipe).recipe
    gguf = GgufFile(
        file="Smol.Q4_1.gguf", sha256="3" * 64, architecture="llama", file_type="Q4_1", types={"Q4_1": 9},
        license="apache-2.0", warnings=[],
    )  # fmt: skip
    named = {"config": None, "tokenizer": None}
    shipped = recipe.model.model_copy(update={**named, "name": "builtin:smollm2-135m-instruct"})
    made = card(folder, "lora", "adapter", commits={"gguf": gguf}, model=shipped)
    assert (made.data.base_model, made.data.license) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    said = "`Smol.Q4_1.gguf` of `HuggingFaceTB/SmolLM2-135M-Instruct`, Q4_1 GGUF: weights rounded to 4 bits"
    assert f"`builtin:smollm2-135m-instruct` ({said}), fine-tuned by `lora`" in made.text
    assert "`base/` holds the original model, converted from `Smol.Q4_1.gguf`" in made.text
    assert "the original model is Smol.Q4\\_1.gguf, a Q4\\_1 GGUF: weights rounded to 4 bits" in made.text
    of_hub = recipe.model.model_copy(update={**named, "name": "org/smol-gguf", "gguf": "Smol.Q4_1.gguf"})
    made = card(folder, "full", commits={"gguf": gguf, "model_revision": "c0ffee1"}, model=of_hub)
    assert made.data.base_model == "org/smol-gguf"
    assert "`org/smol-gguf` at `c0ffee1` (`Smol.Q4_1.gguf`, Q4_1 GGUF: weights rounded to 4 bits), all" in made.text


def test_the_text_says_what_was_measured(folder: RunFolder) -> None:
    text = card(folder, "lora", "onnx", code="import onnxruntime").text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:5]] == ["| original", "| full", "| **lora**"]
    for part in (
        "lora keeps",  # the verdict
        "signature: `metric:rouge_score|n:60|seed:0`",
        "20 of 20 are what the same weights write in fp32, as this export computes",
        "18 texts are the same as those that were scored. ROUGE-1 on these: 70.12, when scored 70.34.",
        r"> when scored: \#Person1\# pays \*5\*",
        r"> this export: \#Person1\# pays 6 \<b\>\|x\|\</b\>",
        "| test | 60 | 60 | 60 |",
        "3.54 M of 251 M parameters trained",
        "peak memory of a training step: 300 MiB",
        "pip install onnxruntime tokenizers",
        "exported: peft 0.18",
        "1 of 60 ended there",
    ):
        assert part in text


def test_a_gguf_says_which_verification_was_done(folder: RunFolder) -> None:
    compared, read = (card(folder, "lora", format) for format in ("gguf", "gguf-q8_0"))
    for made in (compared, read):
        assert "Each of its 21 tensors is the model's: norms and biases exactly, matrices as Q8_0 rounds" in made.text
        assert "by the file's own tokenizer, and its chat template is the same." in made.text
        assert "llama.cpp does not compose characters (Unicode NFC)" in made.text
        assert (made.data.library_name, made.data.tags) == ("gguf", ["tuneoff", "lora", "gguf"])
    missing = "llama-cpp-python was not installed where this was exported: no text was written with this file"
    assert missing in read.text and "The code above, run" not in read.text
    assert missing not in compared.text and "wrote for 20 examples of the test split" in compared.text


def test_an_arm_that_was_not_trained_is_not_called_so(folder: RunFolder) -> None:
    made = card(folder, "original")
    assert "A model of random weights, as it is: not trained.\nThis is the whole model, for transformers." in made.text
    assert "## Training" not in made.text and made.data.tags == ["tuneoff", "merged"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model_class", ["seq2seq", "causal"])
def test_code_stands_whole_in_the_card_whatever_the_prompt(folder: RunFolder, format: str, model_class: str) -> None:
    nasty = 'Sum """ \\ ```up```\n{{not a column}} é🎈\n{dialogue}\n{topic}\nSummary:'
    columns, example = ["dialogue", "topic"], "A: \"x\"\nB: '''"
    code = usage_code(usage(format, model_class=model_class, template=nasty, columns=columns, example=example))
    values = {t.id: ast.literal_eval(n.value) for n in ast.parse(code).body if isinstance(n, ast.Assign)
              for t in n.targets if isinstance(t, ast.Name) and t.id == "PROMPT"}  # fmt: skip
    assert values == {"PROMPT": nasty}
    assert "tuneoff" not in code
    text = card(folder, "lora", format, code=code).text
    shown = re.search(r"^(`{4,})python\n(.*?)^\1$", text, re.DOTALL | re.MULTILINE)
    assert shown is not None and shown[2] == code


def test_an_adapter_is_put_on_its_base_at_its_commit() -> None:
    code = usage_code(usage("adapter", base="google/flan-t5-base", revision="7bcac57"))
    assert 'from_pretrained("google/flan-t5-base", revision="7bcac57", dtype=torch.bfloat16)' in code
    assert 'from_pretrained(f"{folder}/base", dtype=torch.bfloat16)' in usage_code(usage("adapter"))
