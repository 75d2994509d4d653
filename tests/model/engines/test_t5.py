"""The T5 engine against transformers' own model, on fresh random inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from tests.model.engines.trained import draw_lora, gradients, move_trained
from tuneoff.model.engines.t5 import T5Engine
from tuneoff.model.methods import adapt

VOCABULARY = 300
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}


def build(seed: int, dropout: float = 0.0, decoder_layers: int = 3, **settings: Any) -> Any:
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=48, d_kv=16, d_ff=80,
        num_layers=2, num_decoder_layers=decoder_layers, num_heads=3,
        feed_forward_proj="gated-gelu", dropout_rate=dropout, decoder_start_token_id=0, **settings,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    for block in (model.encoder.block[0], model.decoder.block[0]):  # as far from nothing as trained ones are
        torch.nn.init.normal_(block.layer[0].SelfAttention.relative_attention_bias.weight)
    return model.train()


def batch(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    examples, source, target = (int(torch.randint(low, high, ())) for low, high in ((1, 6), (3, 40), (2, 20)))
    lengths = torch.randint(1, source + 1, (examples,))
    lengths[0] = source
    mask = (torch.arange(source) < lengths[:, None]).long()
    labels = torch.randint(3, VOCABULARY, (examples, target))
    labels[torch.arange(target) >= torch.randint(1, target + 1, (examples, 1))] = -100
    return {
        "input_ids": torch.randint(3, VOCABULARY, (examples, source)) * mask,
        "attention_mask": mask,
        "labels": labels,
    }


def with_decoder(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {**inputs, "decoder_input_ids": base._shift_right(inputs["labels"])}


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("targets", [None, ["q", "v"], "all-linear"], ids=["full", "lora-qv", "lora-all"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_and_gradients_are_transformers_own(
    way: str, seed: int, targets: Any, dtype: torch.dtype, bound: float
) -> None:
    model: Any = build(seed).to(dtype)
    if targets is not None:
        model = adapt(model, "lora", {**LORA, "target_modules": targets}, "seq2seq", steps=1)
        draw_lora(model)
        model = model.to(dtype)
    assert T5Engine.suits(model) is None
    inputs = batch(seed + 10)
    loss = T5Engine(model, bf16=False).loss(with_decoder(model, inputs))
    loss.backward()
    ours = gradients(model)
    plain = model(**inputs).loss * (inputs["labels"] >= 0).sum()
    plain.backward()
    theirs = gradients(model)
    assert loss.item() == pytest.approx(plain.item(), rel=bound / 2)
    assert ours.keys() == theirs.keys()
    worst = max((distance(ours[name], theirs[name]), name) for name in theirs)
    assert worst[0] < bound, worst


@pytest.mark.parametrize("targets", [None, "all-linear"], ids=["full", "lora"])
def test_bf16_is_as_near_to_fp32_as_transformers_bf16_is(way: str, targets: Any) -> None:
    def learner(dtype: torch.dtype) -> Any:
        model: Any = build(4)
        if targets is not None:
            model = adapt(model, "lora", {**LORA, "target_modules": targets}, "seq2seq", steps=1)
            torch.manual_seed(5)
            draw_lora(model, "lora")
        return model.to(dtype)

    exact, inputs = learner(torch.float32), batch(14)
    (exact(**inputs).loss * (inputs["labels"] >= 0).sum()).backward()
    true = gradients(exact)
    rounded = learner(torch.bfloat16)
    T5Engine(rounded, bf16=False).loss(with_decoder(rounded, inputs)).backward()
    ours = gradients(rounded)
    (rounded(**inputs).loss * (inputs["labels"] >= 0).sum()).backward()
    theirs = gradients(rounded)
    mean = [sum(distance(found[name], true[name]) for name in true) / len(true) for found in (ours, theirs)]
    assert mean[0] <= 1.1 * mean[1]


def test_with_dropout_the_loss_is_distributed_as_transformers_is(way: str) -> None:
    model, inputs = build(5, dropout=0.2), batch(15)
    count = (inputs["labels"] >= 0).sum()
    with torch.no_grad():
        ours = torch.stack([T5Engine(model, bf16=False).loss(with_decoder(model, inputs)) for _ in range(400)])
        theirs = torch.stack([model(**inputs).loss * count for _ in range(400)])
    error = float((ours.var() / 400 + theirs.var() / 400).sqrt())
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    assert 0.7 < float(ours.std() / theirs.std()) < 1.4


def test_dropout_draws_the_same_in_both_passes(way: str) -> None:
    """The directional derivative of a loss with dropout is that of the function that was computed."""
    model, inputs = build(6, dropout=0.3).double().float(), batch(16)
    weight = model.encoder.block[1].layer[1].DenseReluDense.wo.weight
    direction = torch.randn_like(weight) / weight.numel() ** 0.5

    def loss() -> torch.Tensor:
        torch.manual_seed(8)
        return T5Engine(model, bf16=False).loss(with_decoder(model, inputs))

    loss().backward()
    slope = float((weight.grad * direction).sum())
    with torch.no_grad():
        weight += 1e-2 * direction
        above = float(loss())
        weight -= 2e-2 * direction
        below = float(loss())
    assert (above - below) / 2e-2 == pytest.approx(slope, rel=2e-2, abs=2e-3)


ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {**LORA, "target_modules": ["q", "wi_0", "wo"], "use_dora": True}),
    "ia3": ("ia3", {}),
    "adalora": ("adalora", {"target_modules": ["q", "v"]}),
    "vera": ("vera", {"r": 4, "target_modules": ["q", "v"]}),
    "ln_tuning": ("ln_tuning", {}),
    "embeddings": ("lora", {**LORA, "target_modules": ["embed_tokens", "q"]}),
    "head": ("lora", {**LORA, "target_modules": ["lm_head", "q"]}),
    "bias and norms saved": ("lora", {**LORA, "target_modules": ["q"], "modules_to_save": ["final_layer_norm"]}),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)], ids=["fp32", "bf16"])
def test_a_layer_that_it_does_not_know_is_called_as_it_is(adapter: str, dtype: torch.dtype, bound: float) -> None:
    method, settings = ADAPTERS[adapter]
    model: Any = adapt(build(7).to(dtype), method, settings, "seq2seq", steps=1000)
    torch.manual_seed(8)
    move_trained(model)
    assert T5Engine.suits(model) is None
    inputs = batch(17)
    T5Engine(model, bf16=False).loss(with_decoder(model, inputs)).backward()
    ours = gradients(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        given = with_decoder(model, inputs)
        del given["labels"]
        logits = model(**given).logits
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), inputs["labels"].flatten(), reduction="sum"
    ).backward()
    theirs = gradients(model)
    assert ours.keys() == theirs.keys()
    worst = max((distance(ours[name], theirs[name]), name) for name in theirs)
    assert worst[0] < bound, worst


def test_it_says_why_a_model_does_not_suit_it() -> None:
    relu = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    assert T5Engine.suits(relu) == "it computes gated GELU, and this T5 has relu"
    prompt = adapt(build(0), "prompt_tuning", {"num_virtual_tokens": 4}, "seq2seq", steps=1)
    assert T5Engine.suits(prompt) == "the method puts virtual tokens before the input"
    bart = BartForConditionalGeneration(
        BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                   decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16)
    )  # fmt: skip
    assert T5Engine.suits(bart) == "it computes the T5 family alone"
    hooked = build(0)
    hooked.encoder.block[1].register_forward_hook(lambda *_: None)
    assert T5Engine.suits(hooked) == "the method hooks into encoder.block.1"
    wrapped = build(0)
    wrapped.decoder.block[0].layer[2].DenseReluDense = torch.nn.Identity()
    assert T5Engine.suits(wrapped) == "the method replaces a feed-forward layer"
