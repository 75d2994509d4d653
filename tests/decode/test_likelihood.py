"""The loss on references is that of transformers, example by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import recipe_values
from tests.runner.resolving import QUIET
from tuneoff.data.inputs import read_inputs
from tuneoff.data.tokens import Tokenization, load_tokens
from tuneoff.decode.likelihood import reference_losses
from tuneoff.model.base import build_model
from tuneoff.model.engines import engine_for
from tuneoff.recipe import Recipe


@pytest.mark.parametrize(
    ("kind", "engine"), [("seq2seq", "t5"), ("seq2seq", "plain"), ("causal", "decoder"), ("causal", "plain")]
)
def test_it_is_what_transformers_computes(data_folder: Path, kind: Any, engine: str) -> None:
    recipe = Recipe.model_validate(recipe_values(data_folder, kind))
    inputs = read_inputs(recipe, None, QUIET)
    torch.manual_seed(0)
    model = build_model(inputs.config).eval()
    work = Tokenization.of(recipe, inputs.tokenizer, kind, None)
    rows = load_tokens(inputs.tokens["test"])
    told: list[tuple[int, int]] = []
    found = reference_losses(
        engine_for(engine, model, bf16=False), work, rows["input_ids"], rows["references"], 3, lambda *n: told.append(n)
    )
    assert told[-1] == (10, 10)  # references
    for ids, references, losses in zip(rows["input_ids"], rows["references"], found, strict=True):
        for reference, (nats, tokens) in zip(references, losses, strict=True):
            if kind == "seq2seq":
                target = inputs.tokenizer(text_target=reference)["input_ids"]
                whole = ids
                labels = torch.tensor([target])
            else:
                target = [*inputs.tokenizer(" " + reference)["input_ids"], inputs.tokenizer.eos_token_id]
                whole = [*ids, *target]
                labels = torch.tensor([[-100] * len(ids) + target])
            with torch.no_grad():
                loss = model(input_ids=torch.tensor([whole]), labels=labels).loss
            assert tokens == len(target)
            assert nats / tokens == pytest.approx(float(loss), rel=1e-5)
