from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import MODELS
from tuneoff.data.tokens import IGNORED
from tuneoff.model.base import ModelClass, build_model, make_config
from tuneoff.train.loss import summed_cross_entropy, token_loss


def model_and_batch(kind: ModelClass) -> tuple[Any, dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(7)
    start = {"decoder_start_token_id": 0} if kind == "seq2seq" else {}
    model = build_model(make_config({**MODELS[kind], **start, "vocab_size": 50})).eval()
    ids = torch.randint(3, 50, (8, 12))
    labels = torch.randint(3, 50, (8, 12))
    for row, length in enumerate([12, 3, 7, 1, 9, 2, 5, 11]):  # unequal numbers of target tokens
        if kind == "seq2seq":
            labels[row, length:] = IGNORED
        else:
            labels[row, :-length] = IGNORED
    inputs = {"input_ids": ids}
    if kind == "seq2seq":
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
    return model, inputs, labels


def gradients(kind: ModelClass, micro_batch: int) -> list[torch.Tensor]:
    model, inputs, labels = model_and_batch(kind)
    counted = labels if kind == "seq2seq" else labels[:, 1:]
    tokens = (counted != IGNORED).sum()
    for start in range(0, 8, micro_batch):
        part = {name: value[start : start + micro_batch] for name, value in inputs.items()}
        token_loss(kind)(model(**part), labels[start : start + micro_batch], num_items_in_batch=tokens).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_no_split_of_a_step_changes_its_gradient(kind: ModelClass, micro_batch: int) -> None:
    for whole, parts in zip(gradients(kind, 8), gradients(kind, micro_batch), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_the_loss_of_one_batch_is_the_model_s_own(kind: ModelClass) -> None:
    model, inputs, labels = model_and_batch(kind)
    ours = token_loss(kind)(model(**inputs), labels) if kind == "seq2seq" else None
    if ours is None:
        tokens = (labels[:, 1:] != IGNORED).sum()
        ours = summed_cross_entropy(model(**inputs).logits, labels, kind) / tokens
    torch.testing.assert_close(ours, model(**inputs, labels=labels).loss)


def test_virtual_tokens_before_the_sequence_are_passed_over() -> None:
    logits, labels = torch.randn(2, 6, 9), torch.randint(0, 9, (2, 6))
    longer = torch.cat([torch.randn(2, 3, 9), logits], dim=1)
    assert torch.equal(summed_cross_entropy(longer, labels, "causal"), summed_cross_entropy(logits, labels, "causal"))
