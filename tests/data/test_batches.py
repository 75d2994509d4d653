"""A batch holds each row whole, padded on the right, and starts the decoder where generation starts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import MODELS
from tuneoff.data.batches import Collator, collator_for
from tuneoff.data.order import padded
from tuneoff.data.tokens import IGNORED
from tuneoff.errors import ModelError
from tuneoff.model.base import build_model, fit_config, make_config, start_token
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import train_tokenizer

BART = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "dropout": 0.0,
}  # fmt: skip
LED = {
    **BART, "model_type": "led", "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64,
    "attention_window": 8,
}  # fmt: skip
ids = st.lists(st.integers(3, 99), min_size=1, max_size=40)
rows = st.lists(st.builds(lambda a, b: {"input_ids": a, "labels": b}, ids, ids), min_size=1, max_size=6)


def model_of(values: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
    kind: Any = "seq2seq" if values["model_type"] in ("t5", "led", "mbart", "bart") else "causal"
    tokenizer = train_tokenizer(["some words of a text"] * 3, 300, kind)
    config = make_config(values)
    fit_config(config, tokenizer, vocab_given=False)
    for name, value in settings.items():
        setattr(config, name, value)
    return build_model(config).eval(), tokenizer


@given(rows)
@settings(max_examples=50, deadline=None)
def test_every_row_is_there_whole_and_padding_is_on_the_right(rows: list[dict[str, list[int]]]) -> None:
    batch = Collator(0, "seq2seq", 2)(rows)
    width, target_width = (padded(max(len(row[name]) for row in rows)) for name in ("input_ids", "labels"))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(rows), width)
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == (len(rows), target_width)
    for n, row in enumerate(rows):
        source, target = len(row["input_ids"]), len(row["labels"])
        assert batch["input_ids"][n].tolist() == row["input_ids"] + [0] * (width - source)
        assert batch["attention_mask"][n].tolist() == [1] * source + [0] * (width - source)
        assert batch["labels"][n].tolist() == row["labels"] + [IGNORED] * (target_width - target)
        assert batch["decoder_input_ids"][n].tolist() == [2, *row["labels"][:-1]] + [0] * (target_width - target)
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_a_causal_batch_has_no_decoder_and_ignores_the_prompt() -> None:
    rows = [
        {"input_ids": [5, 6, 7, 1], "labels": [IGNORED, IGNORED, 7, 1]},
        {"input_ids": [5, 1], "labels": [IGNORED, 1]},
    ]
    batch = Collator(9, "causal", None)(rows)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 9, 9, 9, 9], [5, 1, 9, 9, 9, 9, 9, 9]]
    assert batch["labels"][1].tolist() == [IGNORED, 1, *[IGNORED] * 6]


@pytest.mark.parametrize("values", [MODELS["seq2seq"], MODELS["causal"]])
def test_the_tokenizer_s_padding_side_changes_nothing(values: dict[str, Any]) -> None:
    model, tokenizer = model_of(values)
    kind: Any = "seq2seq" if values is MODELS["seq2seq"] else "causal"
    rows = [{"input_ids": [5, 6, 7], "labels": [7, 8, 1]}, {"input_ids": [5], "labels": [1]}]
    batches = []
    for side in ("right", "left"):
        tokenizer.padding_side = side
        collator = collator_for(model, tokenizer, kind)
        batches.append(collator(rows) | {"prompt": collator.for_generation([[5, 6], [7]])["input_ids"]})
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])


def test_training_starts_from_the_token_that_generation_starts_from() -> None:
    """MBART's own shift would begin with the target's last token: its language code, or EOS."""
    model, tokenizer = model_of({**BART, "model_type": "mbart"}, decoder_start_token_id=7)
    collator = collator_for(model, tokenizer, "seq2seq")
    batch = collator([{"input_ids": [5, 6, 1], "labels": [8, 9, 1]}])
    written = model.generate(**collator.for_generation([[5, 6, 1]]), max_new_tokens=2, do_sample=False)
    assert batch["decoder_input_ids"][0, 0] == written[0, 0] == collator.decoder_start_token_id == 7
    model.generation_config.decoder_start_token_id = 11  # as a generation_config.json of its own may say
    assert collator_for(model, tokenizer, "seq2seq").decoder_start_token_id == 11


def test_a_decoder_starts_with_bos_where_nothing_else_is_named_and_else_is_refused() -> None:
    def model(start: int | None, bos: int | None) -> Any:
        settings = SimpleNamespace(decoder_start_token_id=start, bos_token_id=bos)
        return SimpleNamespace(generation_config=settings, config=SimpleNamespace(model_type="bart"))

    assert (start_token(model(4, 5)), start_token(model(None, 5)), start_token(model(0, 5))) == (4, 5, 0)
    with pytest.raises(ModelError, match="bart: neither decoder_start_token_id nor bos_token_id"):
        start_token(model(None, None))


def test_a_batch_by_hand_is_the_model_s_own_loss_and_adapters_change_no_collator() -> None:
    model, tokenizer = model_of({**MODELS["seq2seq"], "dropout_rate": 0.0})
    rows = [{"input_ids": [5, 6, 1], "labels": [8, 9, 10, 11, 12, 1]}, {"input_ids": [5, 6, 7, 8, 1], "labels": [8, 1]}]
    collator = collator_for(model, tokenizer, "seq2seq")
    batch = collator(rows)
    own = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}  # T5 shifts the labels by itself
    assert model(**batch).loss == model(**own).loss
    adapted = adapt(model, "lora", {"r": 2, "target_modules": ["q"]}, "seq2seq", steps=1)
    assert collator_for(adapted, tokenizer, "seq2seq") == collator


def test_led_attends_globally_to_the_first_token_in_training_and_in_generation() -> None:
    model, tokenizer = model_of(LED)
    collator = collator_for(model, tokenizer, "seq2seq")
    batch = collator([{"input_ids": [5, 6, 7, 1], "labels": [8, 1]}])
    assert batch["global_attention_mask"].tolist() == [[1, *[0] * 7]]
    assert collator.for_generation([[5, 6]])["global_attention_mask"].tolist() == [[1, 0]]
    model.train()
    model(**batch).loss.backward()
    unmoved = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert unmoved == []


def test_prompts_are_padded_where_their_text_goes_on() -> None:
    encoder = Collator(0, "seq2seq", 0).for_generation([[5, 6, 7], [8]])
    decoder = Collator(0, "causal", None).for_generation([[5, 6, 7], [8]])
    assert encoder["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert decoder["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert decoder["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
