"""A try's losses on the validation split are what transformers computes, example by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.conftest import TARGETS, recipe_values
from tests.runner.resolving import QUIET, begin, resolved_for
from tuneoff.data.tokens import load_tokens
from tuneoff.recipe import Trial, resolved_recipe
from tuneoff.records import Try, read_validation
from tuneoff.runner.stop import Stop
from tuneoff.runner.trying import try_rate

CLASSES = {"seq2seq": AutoModelForSeq2SeqLM, "causal": AutoModelForCausalLM}
NOTHING = 1e-30  # a learning rate that leaves the weights as they are


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_each_example_s_loss_and_the_solved_rank(kind: Any, data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder, kind)
    values["data"]["limit"] = {"train": 8}
    values["training"] = {"max_steps": 2, "precision": "fp32", "tune_steps": 2}
    tune = {"learning_rate": [NOTHING, 1e-3, 1e-2, 1e-1], "halving": True}
    values["arms"] = {
        "lora": {"method": "lora", "tune": tune, "params": 1500, "target_modules": TARGETS[kind]},
        "original": {"method": "none"},
    }
    recipe, folder = begin(values, tmp_path)
    resolved = resolved_for(recipe, folder)
    rank = resolved.ranks["lora"]
    assert resolved_recipe(resolved).arms["lora"].settings["r"] == rank
    assert resolved.recipe["arms"]["lora"]["params"] == 1500 and "r" not in resolved.recipe["arms"]["lora"]

    own = folder.rate("lora", NOTHING, 2)
    tried = try_rate(resolved, Trial("lora", 0), NOTHING, own, QUIET, Stop(), 2)
    assert Try.read(own.tried) == tried and (tried.rung, tried.steps) == (2, 2) and tried.seconds > 0
    found = read_validation(own.validation)
    model = CLASSES[kind].from_pretrained(folder.base).eval()
    rows = load_tokens(resolved.tokens["validation"])
    assert len(found) == len(rows) == 6
    for row, one in zip(rows, found, strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=labels).loss)
        assert one.tokens == int((labels != -100).sum())
        assert one.nats / one.tokens == pytest.approx(loss, rel=1e-4)
    total = sum(one.nats for one in found) / sum(one.tokens for one in found)
    assert tried.validation_loss == pytest.approx(total)
