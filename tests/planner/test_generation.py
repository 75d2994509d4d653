"""The memory of generation as it is predicted, beside what is alive when texts are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import recipe_values
from tests.planner.test_planner import CPU, QUIET
from tuneoff.data.inputs import read_inputs
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.generate import generate
from tuneoff.model.base import build_model
from tuneoff.model.device import Precision
from tuneoff.model.engines import choose_engines, engine_for
from tuneoff.model.kernels import operations
from tuneoff.planner import generation
from tuneoff.planner.alive import Alive, lasting_bytes
from tuneoff.planner.generation import FakeGeneration
from tuneoff.planner.training import PlannedWork
from tuneoff.recipe import Recipe

VOCABULARY = 20_000  # so large that a copy of the logits is a large part of the peak


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize("engine", ["auto", "auto without kernels", "plain"])
@pytest.mark.parametrize("beams", [1, 4])
def test_what_is_predicted_is_what_is_alive(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, engine: str, beams: int
) -> None:
    monkeypatch.setattr(generation, "bytes_besides_tensors", lambda *_: 0)
    if engine == "auto without kernels":
        monkeypatch.setattr(operations, "native", lambda: None)
    values = recipe_values(data_folder, kind)
    values["model"]["config"]["vocab_size"] = VOCABULARY
    values["training"] |= {"engine": engine.partition(" ")[0]}
    values["evaluation"] |= {"search": {"num_beams": beams}}
    recipe = Recipe.model_validate(values)
    inputs = read_inputs(recipe, None, QUIET)
    chosen = choose_engines(inputs.config, recipe.arms, recipe.training)["original"]
    work = PlannedWork(recipe.arms["original"], recipe.training, chosen)
    precision = Precision("fp32", "")
    predicted = FakeGeneration(work, inputs, recipe.evaluation, precision, CPU).predict().held.peak
    torch.manual_seed(0)
    model = build_model(inputs.config).eval()
    prompts = list(load_tokens(inputs.tokens[recipe.evaluation.split])["input_ids"])
    with Alive() as alive:
        generate(
            engine_for(chosen.name, model, bf16=False), inputs.tokenizer, prompts, search=recipe.evaluation.search,
            max_new_tokens=recipe.evaluation.max_new_tokens, batch_size=recipe.evaluation.batch_size,
            report=lambda *_: None,
        )  # fmt: skip
    assert predicted - lasting_bytes(model, None) == pytest.approx(alive.peak, rel=0.1)
