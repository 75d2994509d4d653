"""The linear layers of a model and their adapters, as the kernels compute them: products of one input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneoff.model.kernels.cross_entropy import linear_cross_entropy, linear_token_losses
from tuneoff.model.kernels.operations import rms_norm
from tuneoff.model.kernels.products import Linear, Source, products

# Norm layers by how they scale: by the weight, or by one more than the weight.
SCALED = {
    f"{name}{'LayerNorm' if name.endswith('T5') else 'RMSNorm'}"
    for name in ("T5", "MT5", "Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Phi3", "Olmo2", "Granite")
}
SCALED_BY_ONE_MORE = {f"{name}RMSNorm" for name in ("Gemma", "Gemma2", "Gemma3")}


def project(x: Tensor, layers: Sequence[nn.Module], norm: Any = None) -> list[Tensor]:
    """The outputs of several layers on one input (…, in), which is normed first where a `norm` is given: (…, out) each.

    Linear layers, and peft's LoRA around them, are computed without being called. Any other layer is called as it is.
    """
    if norm is None:
        return _project(Source.plain(x), layers)
    if not is_rms_norm(norm):
        return _project(Source.plain(call_layer(norm, x)), layers)
    return _project(Source.normed(x, norm.weight, _eps(norm), _offset(norm)), layers)


def project_gated(
    gate: Tensor, value: Tensor, layers: Sequence[nn.Module], activation: int, p: float = 0.0
) -> list[Tensor]:
    """The same of dropout(activation(gate) * value)."""
    return _project(Source.gated(gate, value, activation, p), layers)


def head_loss(x: Tensor, head: nn.Module, targets: Tensor, cap: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed, of the output layer's logits on x (n, D). See `linear_cross_entropy`."""
    if _is_plain(head):
        return linear_cross_entropy(x, head.weight, targets, cap)
    return functional.cross_entropy(head_logits(x, head, cap).float(), targets, reduction="sum")


def head_token_losses(x: Tensor, head: nn.Module, targets: Tensor, cap: float = 0.0) -> Tensor:
    """The cross-entropy of each row in nats, without gradient: (n)."""
    if _is_plain(head):
        return linear_token_losses(x, head.weight, targets, cap)
    with torch.no_grad():
        return functional.cross_entropy(head_logits(x, head, cap).float(), targets, reduction="none")


def head_logits(x: Tensor, head: nn.Module, cap: float = 0.0) -> Tensor:
    """The output layer's logits on x (n, D), bent by `cap` where that is not 0: (n, V)."""
    (logits,) = project(x, [head])
    return logits if cap == 0 else (torch.tanh(logits.float() / cap) * cap).to(logits.dtype)


def call_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's own forward pass, whatever it is, in the dtype of `x`: under autocast where that is bf16."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        out: Tensor = layer(x)
    return out.to(x.dtype)


def apply_norm(norm: Any, x: Tensor) -> Tensor:
    """The norm layer's output for `x`."""
    return rms_norm(x, norm.weight, _eps(norm), _offset(norm)) if is_rms_norm(norm) else call_layer(norm, x)


def is_rms_norm(norm: Any) -> bool:
    """Whether `norm` is a model's own RMS norm of a known kind, without anything around it."""
    known = type(norm).__name__ in SCALED | SCALED_BY_ONE_MORE
    return known and not norm._forward_hooks and not norm._forward_pre_hooks


def is_known(layer: nn.Module) -> bool:
    """Whether `project` computes all that `layer` does without calling it."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if type(layer) is nn.Linear:
        return True
    from peft.tuners.lora import Linear as LoraLinear

    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear:
        return False
    active = layer.active_adapters
    if len(active) != 1 or layer.merged or layer.disable_adapters or layer.lora_variant or layer.fan_in_fan_out:
        return False
    return active[0] in layer.lora_A and layer.lora_A[active[0]].bias is layer.lora_B[active[0]].bias is None


def _project(source: Source, layers: Sequence[nn.Module]) -> list[Tensor]:
    if all(map(is_known, layers)):
        return products(source, [_linear(layer) for layer in layers])
    x = source.compute()
    return [
        products(Source.plain(x), [_linear(layer)])[0] if is_known(layer) else call_layer(layer, x) for layer in layers
    ]


def _linear(layer: Any) -> Linear:
    """A known layer's tensors, the adapter's in the dtype of the weight."""
    if type(layer) is nn.Linear:
        return Linear(layer.weight, layer.bias)
    name, base = layer.active_adapters[0], layer.base_layer
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight * layer.scaling[name]
    p = float(getattr(layer.lora_dropout[name], "p", 0.0)) if layer.training else 0.0
    return Linear(base.weight, base.bias, a.to(base.weight.dtype), b.to(base.weight.dtype), p)


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and is_known(layer) and layer.bias is None


def _offset(norm: Any) -> float:
    return 1.0 if type(norm).__name__ in SCALED_BY_ONE_MORE else 0.0


def _eps(norm: Any) -> float:
    return float(norm.eps if type(norm).__name__ in SCALED_BY_ONE_MORE else norm.variance_epsilon)
