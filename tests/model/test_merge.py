"""An adapter is merged where that changes nothing else, and the texts stay what the adapter writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import MODELS, dialogue
from tuneoff.decode.generate import generate
from tuneoff.model.base import build_model, fit_config, make_config
from tuneoff.model.engines import engine_for
from tuneoff.model.merge import merged_for_generation, shared_adapted_layers
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe.evaluation import SearchSpec

TEXTS = [dialogue(n)[0] for n in range(6)]
ADAPTERS: dict[str, tuple[str, dict[str, Any], bool]] = {  # and whether the T5 engine merges it
    "lora": ("lora", {"r": 4, "target_modules": ["q", "v", "wo"]}, True),
    "dora": ("lora", {"r": 4, "target_modules": ["q", "v"], "use_dora": True}, True),
    "ia3": ("ia3", {}, True),
    "lora on a tied output layer": ("lora", {"r": 4, "target_modules": ["q", "lm_head"]}, False),
    "prompt tuning": ("prompt_tuning", {"num_virtual_tokens": 4}, False),
}


def adapted(method: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = train_tokenizer(TEXTS, 400, "seq2seq")
    config = make_config(dict(MODELS["seq2seq"]))
    fit_config(config, tokenizer, vocab_given=False)
    torch.manual_seed(3)
    model = adapt(build_model(config), method, settings, "seq2seq", steps=10)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.3 * torch.randn_like(weight)
    return model, tokenizer


def texts(model: Any, tokenizer: Any, engine: str) -> list[str]:
    inputs = tokenizer(TEXTS)["input_ids"]
    written = generate(
        engine_for(engine, model, bf16=False), tokenizer, inputs, max_new_tokens=8, search=SearchSpec(), batch_size=3,
        report=lambda done, total: None,
    )  # fmt: skip
    return [one.text for one in written]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("keep", [False, True])
def test_merged_or_not_it_writes_what_the_adapter_writes(adapter: str, keep: bool) -> None:
    method, settings, merges = ADAPTERS[adapter]
    model, tokenizer = adapted(method, settings)
    expected = texts(model, tokenizer, "plain")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert merged_for_generation(model, "plain") is model
    merged = merged_for_generation(model, "t5", keep=keep)
    assert (merged is not model) == merges
    assert texts(merged, tokenizer, "t5") == expected
    if keep or not merges:
        assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_layers_that_share_their_weights_are_named() -> None:
    model, _ = adapted(*ADAPTERS["lora on a tied output layer"][:2])
    assert [name.rpartition(".")[2] for name in shared_adapted_layers(model)] == ["lm_head"]
    assert shared_adapted_layers(adapted(*ADAPTERS["lora"][:2])[0]) == []
