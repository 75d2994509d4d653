"""The decoder engine against transformers' own models, on fresh random inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.model.engines.families import FAMILIES, batch, build
from tests.model.engines.trained import draw_lora, gradients, move_trained
from tuneoff.model.engines.decoder import DecoderEngine
from tuneoff.model.methods import adapt

LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}


def summed_loss(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[:, :-1]
    labels = inputs["labels"][:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum")


def distances(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, float]:
    scale = max(float(value.norm()) for value in theirs.values())
    floors = {name: max(float(value.norm()), 1e-5 * scale) for name, value in theirs.items()}
    return {name: float((ours[name] - value).norm()) / floors[name] for name, value in theirs.items()}


def whole_distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Of the gradient as one vector, relative to its length."""
    difference = sum(float((ours[name] - value).double().square().sum()) for name, value in theirs.items())
    return float((difference / sum(float(value.double().square().sum()) for value in theirs.values())) ** 0.5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_transformers_own(way: str, family: str, method: str) -> None:
    model: Any = build(family, 0)
    if method == "lora":
        model = adapt(model, "lora", LORA, "causal", steps=1)
        draw_lora(model)
    assert DecoderEngine.suits(model) is None
    for seed in (1, 2):
        inputs = batch(seed)
        engine = DecoderEngine(model, bf16=False)
        loss = engine.loss(inputs)
        loss.backward()
        ours = gradients(model)
        plain = summed_loss(model, inputs)
        plain.backward()
        theirs = gradients(model)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
        assert ours.keys() == theirs.keys()
        assert whole_distance(ours, theirs) < 1e-5
        worst = max((value, name) for name, value in distances(ours, theirs).items())
        assert worst[0] < 1e-4, worst  # each by itself: those of small gradients round more
        assert float(engine.losses(inputs).sum()) == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_bf16_is_as_near_to_fp32_as_transformers_bf16_is(way: str, family: str, method: str) -> None:
    def learner(dtype: torch.dtype) -> Any:
        model: Any = build(family, 3)
        if method == "lora":
            model = adapt(model, "lora", LORA, "causal", steps=1)
            torch.manual_seed(4)
            draw_lora(model, "lora")
        return model.to(dtype)

    exact, rounded, ours, theirs = learner(torch.float32), learner(torch.bfloat16), 0.0, 0.0
    for seed in range(5, 10):
        inputs = batch(seed)
        summed_loss(exact, inputs).backward()
        true = gradients(exact)
        DecoderEngine(rounded, bf16=True).loss(inputs).backward()
        ours += sum(distances(gradients(rounded), true).values())
        summed_loss(rounded, inputs).backward()
        theirs += sum(distances(gradients(rounded), true).values())
    assert ours <= 1.1 * theirs


ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {**LORA, "target_modules": ["q_proj", "gate_proj", "down_proj"], "use_dora": True}),
    "ia3": ("ia3", {}),
    "adalora": ("adalora", {"target_modules": ["q_proj", "v_proj"]}),
    "vera": ("vera", {"r": 4, "target_modules": ["q_proj", "up_proj"]}),
    "ln_tuning": ("ln_tuning", {}),
    "embeddings": ("lora", {**LORA, "target_modules": ["embed_tokens", "q_proj"]}),
    "head": ("lora", {**LORA, "target_modules": ["lm_head", "q_proj"]}),
    "norm saved": ("lora", {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "norms of heads saved": ("lora", {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["q_norm"]}),
    "biases": ("lora", {**LORA, "target_modules": ["q_proj", "down_proj"], "bias": "all"}),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_layer_that_it_does_not_know_is_called_as_it_is(way: str, adapter: str) -> None:
    method, settings = ADAPTERS[adapter]
    family = "olmo2" if "heads" in adapter else "llama with biases"
    model: Any = adapt(build(family, 6), method, settings, "causal", steps=1000)
    torch.manual_seed(7)
    move_trained(model)
    assert DecoderEngine.suits(model) is None
    inputs = batch(8)
    DecoderEngine(model, bf16=False).loss(inputs).backward()
    ours = gradients(model)
    summed_loss(model, inputs).backward()
    theirs = gradients(model)
    assert ours.keys() == theirs.keys()
    worst = max((value, name) for name, value in distances(ours, theirs).items())
    assert worst[0] < 1e-4, worst


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_activation_checkpointing_changes_nothing(p: float) -> None:
    model: Any = adapt(build("llama", 9), "lora", {**LORA, "lora_dropout": p}, "causal", steps=1)
    draw_lora(model)
    inputs, found = batch(10), []
    for _ in range(2):
        torch.manual_seed(11)
        DecoderEngine(model, bf16=False).loss(inputs).backward()
        found.append(gradients(model))
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_lora_dropout_draws_the_same_in_both_passes() -> None:
    """The directional derivative of a loss with dropout is that of the function that was computed."""
    model: Any = adapt(build("llama", 12), "lora", {**LORA, "lora_dropout": 0.4}, "causal", steps=1)
    draw_lora(model, std=0.1)
    inputs = batch(13)

    def loss() -> torch.Tensor:
        torch.manual_seed(14)
        return DecoderEngine(model, bf16=False).loss(inputs)

    loss().backward()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    directions = [torch.randn_like(weight) for weight in weights]
    slope = sum(float((weight.grad * way).sum()) for weight, way in zip(weights, directions, strict=True))
    step = 2e-3
    with torch.no_grad():
        for weight, way in zip(weights, directions, strict=True):
            weight.add_(step * way)
        above = float(loss())
        for weight, way in zip(weights, directions, strict=True):
            weight.sub_(2 * step * way)
        below = float(loss())
    assert (above - below) / (2 * step) == pytest.approx(slope, rel=3e-2)


def test_logits_are_computed_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoff.model.kernels import cross_entropy

    model, inputs = build("gemma2", 15), batch(16)
    whole = DecoderEngine(model, bf16=False).loss(inputs)
    whole.backward()
    at_once = gradients(model)
    monkeypatch.setattr(cross_entropy, "LOGITS_BYTES", 1)
    monkeypatch.setattr(cross_entropy, "LEAST_ROWS", 2)
    engine = DecoderEngine(model, bf16=False)
    parts = engine.loss(inputs)
    parts.backward()
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    assert max(distances(gradients(model), at_once).values()) < 1e-5
    assert float(engine.losses(inputs).sum()) == pytest.approx(whole.item(), rel=1e-6)


def test_a_batch_without_a_target_has_no_loss(way: str) -> None:
    model: Any = adapt(build("llama", 17), "lora", {**LORA, "target_modules": ["lm_head", "q_proj"]}, "causal", steps=1)
    inputs = batch(18)
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    engine = DecoderEngine(model, bf16=False)
    loss = engine.loss(inputs)
    loss.backward()
    assert loss.item() == 0
    assert not engine.losses(inputs).any()
    assert not any(gradient.any() for gradient in gradients(model).values())


def test_norms_of_another_dtype_are_read_as_what_they_are(way: str) -> None:
    model, inputs = build("qwen3", 19).to(torch.bfloat16), batch(20)
    expected = DecoderEngine(model, bf16=True).loss(inputs).item()
    for module in model.modules():
        if type(module).__name__ == "Qwen3RMSNorm":
            module.float()
    assert DecoderEngine(model, bf16=True).loss(inputs).item() == pytest.approx(expected, rel=1e-2)


def test_a_gradient_is_not_taken_twice() -> None:
    loss = DecoderEngine(build("llama", 21), bf16=False).loss(batch(22))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="was taken before"):
        loss.backward()


def test_it_says_why_a_model_does_not_suit_it() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    assert DecoderEngine.suits(gpt) == "it computes decoder-only models of Llama's kind, and not GPT2LMHeadModel"
    relu = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                    hidden_act="relu")
    )  # fmt: skip
    assert DecoderEngine.suits(relu) == "it computes gates of SiLU and of GELU's tanh form, and this model has relu"
    prompt = adapt(build("llama", 0), "prompt_tuning", {"num_virtual_tokens": 4}, "causal", steps=1)
    assert DecoderEngine.suits(prompt) == "the method puts virtual tokens before the input"
    invoked = adapt(build("llama", 0), "lora", {**LORA, "alora_invocation_tokens": [5, 6]}, "causal", steps=1)
    assert DecoderEngine.suits(invoked) == "the method is told by the input which tokens it changes"
    hooked = build("llama", 0)
    hooked.model.layers[1].register_forward_hook(lambda *_: None)
    assert DecoderEngine.suits(hooked) == "the method hooks into model.layers.1"
    wrapped = build("llama", 0)
    wrapped.model.layers[0].mlp = torch.nn.Identity()
    assert DecoderEngine.suits(wrapped) == "the method replaces a feed-forward layer"
