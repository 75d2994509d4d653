"""What can be known before training is refused before training, in one line that says what would be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tests.conftest import MODELS, recipe_values
from tests.runner.resolving import QUIET
from tuneoff.data.checks import (
    Extent,
    check_architecture,
    check_lengths,
    check_start_token,
    check_training,
    check_vocabulary,
    length_warnings,
    measure_tokens,
)
from tuneoff.data.inputs import read_inputs
from tuneoff.data.model_folder import check_model_folder
from tuneoff.data.positions import VirtualTokens, virtual_tokens
from tuneoff.errors import RecipeError
from tuneoff.model.base import build_model, make_config, model_class
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe.schema import Recipe
from tuneoff.recipe.training import TrainingSpec

BART = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 50, "pad_token_id": 1,
}  # fmt: skip
LIMITED: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": 50},
    "gpt_neo": {
        "hidden_size": 16, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]],
        "max_position_embeddings": 64, "vocab_size": 50,
    },
    "opt": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "word_embed_proj_dim": 16,
        "max_position_embeddings": 64, "vocab_size": 50, "pad_token_id": 1,
    },
    **{name: {**BART, "max_position_embeddings": 64} for name in ("bart", "pegasus", "blenderbot", "marian", "mbart")},
    "led": {
        **BART, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 8,
    },
}  # fmt: skip


def config_of(name: str, **more: Any) -> Any:
    return make_config({"model_type": name, **LIMITED.get(name, {}), **more})


def lines(problems: list[Any]) -> list[str]:
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (
            {"lr_scheduler_type": "cosinee"},
            "training.lr_scheduler_type: no scheduler 'cosinee'; did you mean 'cosine'?",
        ),
        ({"report_to": ["tensorbord"]}, "training.report_to: no tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ({"report_to": ["none"]}, "training.report_to: 'none' is no tracker; write `report_to: []` for none"),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest(training: dict[str, Any], expected: str) -> None:
    assert lines(check_training(TrainingSpec(**training))) == [expected]


def test_schedulers_that_steps_alone_do_not_build_are_refused_with_those_that_they_build() -> None:
    for name in ("reduce_lr_on_plateau", "warmup_stable_decay", "cosine_with_min_lr", "greedy"):
        [problem] = check_training(TrainingSpec(lr_scheduler_type=name))
        assert "linear, cosine, cosine_with_restarts, polynomial, constant" in problem.message
    for name in ("linear", "cosine", "polynomial", "constant_with_warmup", "inverse_sqrt"):
        assert check_training(TrainingSpec(lr_scheduler_type=name)) == []


def test_a_tracker_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    problems = check_training(TrainingSpec(lr_scheduler_type="linar", report_to=["tensorboard", "wandb", "all"]))
    assert lines(problems) == [
        "training.lr_scheduler_type: no scheduler 'linar'; did you mean 'linear'?",
        "training.report_to: the tracker 'wandb' is not installed: pip install wandb",
        "training.report_to: name each tracker; installed here: tensorboard",
    ]


def test_a_folder_with_an_adapter_beside_the_model_is_refused(tmp_path: Path) -> None:
    make_config({**MODELS["causal"], "vocab_size": 50}).save_pretrained(tmp_path)
    assert check_model_folder(str(tmp_path)) == []
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    [problem] = check_model_folder(str(tmp_path))
    assert "holds an adapter" in problem.message
    assert "merge_and_unload" in problem.message
    assert "org/base" in problem.message


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows() -> None:
    tokenizer = train_tokenizer(["some words of a text"] * 3, 300, "causal")
    rows = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    small, large = (make_config({**MODELS["causal"], "vocab_size": n}) for n in (rows, rows + 60))
    [problem] = check_vocabulary(small, tokenizer)
    assert f"the tokenizer has {rows + 1} tokens, and the model's embeddings have {rows} rows" in problem.message
    assert f"'<new>' ({rows})" in problem.message
    assert check_vocabulary(small, tokenizer, highest_id=rows) == [problem]
    assert check_vocabulary(small, tokenizer, highest_id=rows - 1) == []  # known, and in no text
    tokenizer.pad_token = "<new>"  # a padding token that was added, and no row for it
    assert len(check_vocabulary(small, tokenizer, highest_id=5)) == 1
    assert check_vocabulary(large, tokenizer) == []


def test_architectures_whose_loss_depends_on_the_batch_are_not_trained() -> None:
    for name, reason in (
        ("prophetnet", "relative positions depend on the padded length"),
        ("nllb-moe", "experts take a limited number of tokens"),
        ("bigbird_pegasus", "Set attention_type: original_full"),
    ):
        [problem] = check_architecture(make_config({"model_type": name}))
        assert reason in problem.message
    for values in ({"model_type": "bigbird_pegasus", "attention_type": "original_full"}, *MODELS.values()):
        assert check_architecture(make_config(values)) == []


class _UnreadError(Exception):
    """Raised where the data would be read."""


@pytest.mark.parametrize("trains", [True, False])
def test_such_an_architecture_is_refused_before_the_data_are_read_only_where_an_arm_trains(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: bool
) -> None:
    def unread(*_: Any) -> None:
        raise _UnreadError

    monkeypatch.setattr("tuneoff.data.inputs.open_splits", unread)
    values = recipe_values(data_folder)
    values["model"]["config"] = {
        "model_type": "prophetnet", "hidden_size": 16, "num_encoder_layers": 1, "num_decoder_layers": 1,
        "num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2, "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }  # fmt: skip
    values["arms"] = {"original": {"method": "none"}}
    if trains:
        values["arms"]["full"] = {"method": "full", "learning_rate": 1e-3}
    expected = (RecipeError, "prophetnet cannot be trained so that arms compare") if trains else (_UnreadError, "")
    with pytest.raises(expected[0], match=expected[1]):
        read_inputs(Recipe.model_validate(values), tmp_path / "base", QUIET)


def test_an_encoder_decoder_without_a_start_token_is_refused() -> None:
    config = make_config({**MODELS["seq2seq"], "vocab_size": 50})
    config.decoder_start_token_id = config.bos_token_id = None
    assert "neither decoder_start_token_id nor bos_token_id" in lines(check_start_token(config))[0]
    config.bos_token_id = 3
    assert check_start_token(config) == []
    assert check_start_token(make_config({**MODELS["causal"], "bos_token_id": None})) == []


def reads(model: Any, kind: str, source: int, target: int) -> bool:
    """Whether the model has positions for a row of these lengths."""
    ids = torch.full((1, source), 5)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    if kind == "seq2seq":
        labels = torch.full((1, target), 5)
        batch |= {"labels": labels, "decoder_input_ids": labels}
    try:
        model(**batch)
    except IndexError:
        return False
    return True


def writes(model: Any, source: int, count: int) -> bool:
    """Whether the model has positions for `count` new tokens after a prompt of `source`."""
    ids = torch.full((1, source), 5)
    mask = torch.ones_like(ids)
    try:
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count)
    except IndexError:
        return False
    return True


@pytest.mark.parametrize("name", LIMITED)
def test_lengths_are_refused_exactly_where_the_model_cannot_read_them(name: str) -> None:
    config = config_of(name)
    kind = model_class(config)
    model = build_model(config_of(name)).eval()
    for source, target in ((64, 8), (72, 8), (8, 64), (8, 72)):
        problems = check_lengths(config, kind, Extent(training=source, target=target), 8)
        assert (problems == []) == reads(model, kind, source, target)


def test_refused_lengths_name_both_numbers_and_what_to_set() -> None:
    bart, gpt2 = config_of("bart"), config_of("gpt2")
    assert lines(check_lengths(bart, "seq2seq", Extent(training=65, prompt=70, target=80), 90)) == [
        "data.max_source_length: the longest input has 70 tokens, and bart has 64 positions. "
        "Set data.max_source_length: 64",
        "data.max_target_length: the longest target has 80 tokens, and bart has 64 positions. "
        "Set data.max_target_length: 64",
        "evaluation.max_new_tokens: the longest text to be written has 90 tokens, and bart has 64 positions. "
        "Set evaluation.max_new_tokens: 64",
    ]
    row, prompt = check_lengths(gpt2, "causal", Extent(training=65, prompt=50), 24)
    assert "the longest training row has 65 tokens of prompt and target, and gpt2 has 64 positions" in row.message
    assert "together they are at most 64" in row.message
    assert prompt.path == ("evaluation", "max_new_tokens")
    assert check_lengths(gpt2, "causal", Extent(training=64, prompt=41), 24) == []
    assert len(check_lengths(gpt2, "causal", Extent(training=60, prompt=41), 24, VirtualTokens(input=8))) == 2
    odd = check_lengths(config_of("bart", max_position_embeddings=60), "seq2seq", Extent(training=58), 8)
    assert "60 positions (inputs are padded to multiples of 8). Set data.max_source_length: 56" in odd[0].message


@pytest.mark.parametrize("name", ["bart", "gpt2"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("prompt_tuning", {"num_virtual_tokens": 5}),
        ("p_tuning", {"num_virtual_tokens": 5, "encoder_hidden_size": 16}),
        ("prefix_tuning", {"num_virtual_tokens": 5}),
        ("cpt", {"cpt_token_ids": [5, 6, 7, 8, 9]}),
    ],
)
def test_virtual_tokens_take_positions_of_the_table_that_the_model_counts_them_in(
    name: str, method: str, settings: dict[str, Any]
) -> None:
    config = config_of(name)
    kind = model_class(config)
    if method == "cpt" and kind == "seq2seq":
        pytest.skip("peft has CPT for causal models alone")
    model = adapt(build_model(config_of(name)), method, settings, kind, steps=1).eval()
    virtual = virtual_tokens(method, settings, kind)

    for source, target in ((56, 8), (64, 8), (8, 56), (8, 64)):  # rows are padded to multiples of 8 before
        problems = check_lengths(config, kind, Extent(training=source, target=target), 8, virtual)
        assert (problems == []) == reads(model, kind, source, target)
    for source, count in ((8, 52), (8, 53), (8, 59), (8, 60), (8, 64), (8, 65)):
        problems = check_lengths(config, kind, Extent(prompt=source), count, virtual)
        assert (problems == []) == writes(model, source, count)


def test_virtual_tokens_are_told_beside_the_lengths_and_rows_are_padded_before_them() -> None:
    [odd] = check_lengths(config_of("bart"), "seq2seq", Extent(training=57, target=64), 64, VirtualTokens(input=5))
    assert "has 57 tokens and 5 virtual ones, and bart has 64 positions. Set data.max_source_length: 56" in odd.message
    [full] = check_lengths(config_of("gpt2"), "causal", Extent(training=3), 8, VirtualTokens(input=64))
    assert "No position is left: the method has too many virtual tokens" in full.message
    assert virtual_tokens("lora", {"r": 4}, "causal") == VirtualTokens()
    assert virtual_tokens("cpt", {}, "causal") == VirtualTokens(input=1)


def test_what_a_causal_model_writes_at_the_limit_is_no_index_error() -> None:
    model = build_model(config_of("gpt2")).eval()
    written = model.generate(torch.full((1, 41), 5), max_new_tokens=24, min_new_tokens=24, do_sample=False)
    assert written.shape == (1, 65)


def test_rotary_and_relative_positions_are_warned_of_and_not_refused() -> None:
    llama = make_config({**MODELS["causal"], "max_position_embeddings": 64})
    extent = Extent(training=60, target=10, prompt=50)
    assert check_lengths(llama, "causal", extent, 90) == []
    assert length_warnings(llama, "causal", extent, 10) == []
    [warning] = length_warnings(llama, "causal", extent, 90)
    assert "140 tokens, and llama was made for 64" in warning
    t5 = make_config(MODELS["seq2seq"])
    t5.n_positions = 8  # as T5's config.json has it: no limit of the model's
    assert (check_lengths(t5, "seq2seq", extent, 90), length_warnings(t5, "seq2seq", extent, 90)) == ([], [])
    assert length_warnings(config_of("gpt2"), "causal", extent, 90) == []  # refused instead


def test_what_the_checks_compare_with_is_measured_on_the_tokens(tmp_path: Path) -> None:
    Dataset.from_list(
        [{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}, {"input_ids": [9], "labels": [9]}]
    ).save_to_disk(tmp_path / "train")
    Dataset.from_list([{"id": "a", "input_ids": [5, 44, 7]}]).save_to_disk(tmp_path / "test")
    extent = measure_tokens([tmp_path / "train"], [tmp_path / "test"])
    assert extent == Extent(training=4, target=2, prompt=3, highest_id=44)
    assert measure_tokens([], []) == Extent()
