"""Products of one input with several weights as one, low-rank updates included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneoff.model.kernels.operations import LowRank, dropout, rms_norm


def project(x: Tensor, layers: Sequence[nn.Module], norm: Any = None) -> Tensor:
    """The outputs of several layers on one input, side by side: (..., in) → (..., sum of outs).

    The input is normed first where a `norm` is given. Linear layers without bias, and peft's LoRA around them
    (y = W x + scaling · B A dropout(x), Hu et al. 2021, equation 3), are computed as one product. If one of the layers
    is of another kind, each layer is called as it is.
    """
    if norm is not None and not is_rms_norm(norm):
        x, norm = call_layer(norm, x), None
    if not all(map(is_known, layers)):
        x = _normed(x, norm)
        return torch.cat([call_layer(layer, x) for layer in layers], dim=-1)
    weights = [_base(layer).weight for layer in layers]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    adapted = [layer for layer in layers if _adapter(layer) is not None]
    if not adapted:
        return functional.linear(_normed(x, norm), weight)
    p = _dropout(adapted[0]) if adapted[0].training else 0.0
    downs, up = [_a(layer) for layer in adapted], _up(layers, adapted)
    scale, eps = (None, 0.0) if norm is None else (norm.weight, norm.variance_epsilon)
    if LowRank.suits(x, weight, scale):
        return LowRank.apply(x, scale, eps, weight, torch.cat(downs), up, [len(down) for down in downs], p)
    x = _normed(x, norm)
    # Each adapter draws its own dropout.
    inner = [functional.linear(dropout(x, p), down) for down in downs]
    return functional.linear(x, weight) + functional.linear(torch.cat(inner, dim=-1), up)


def call_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's own forward pass, whatever it is, in the dtype of `x`: under autocast where that is bf16."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        out: Tensor = layer(x)
    return out.to(x.dtype)


def apply_norm(norm: Any, x: Tensor) -> Tensor:
    """The norm layer's output for `x`."""
    return _normed(x, norm) if is_rms_norm(norm) else call_layer(norm, x)


def is_rms_norm(norm: Any) -> bool:
    """Whether `norm` is T5's own norm layer, without anything around it."""
    return type(norm).__name__ in ("T5LayerNorm", "MT5LayerNorm") and hasattr(norm, "variance_epsilon")


def _normed(x: Tensor, norm: Any) -> Tensor:
    return x if norm is None else rms_norm(x, norm.weight, norm.variance_epsilon)


def _up(layers: Sequence[nn.Module], adapted: Sequence[Any]) -> Tensor:
    """B of every adapter at its place, scaled: (sum of outs, sum of ranks), 0 elsewhere."""
    ranks = iter([_a(layer).shape[0] for layer in adapted])
    total = sum(_a(layer).shape[0] for layer in adapted)
    blocks, done = [], 0
    for layer in layers:
        weight = _base(layer).weight
        block = weight.new_zeros(weight.shape[0], total)
        if _adapter(layer) is not None:
            rank = next(ranks)
            block = functional.pad(_b(layer), (done, total - done - rank))
            done += rank
        blocks.append(block)
    return torch.cat(blocks)


def is_known(layer: nn.Module) -> bool:
    """Whether `project` computes all that `layer` does without calling it."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if type(layer) is nn.Linear:
        return layer.bias is None
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or type(layer.base_layer) is not nn.Linear or layer.base_layer.bias is not None:
        return False
    active = layer.active_adapters
    if len(active) != 1 or layer.merged or layer.disable_adapters or layer.lora_variant or layer.fan_in_fan_out:
        return False
    return active[0] in layer.lora_A and layer.lora_A[active[0]].bias is layer.lora_B[active[0]].bias is None


def _base(layer: Any) -> Any:
    return layer.base_layer if hasattr(layer, "base_layer") else layer


def _adapter(layer: Any) -> str | None:
    return layer.active_adapters[0] if hasattr(layer, "base_layer") else None


def _a(layer: Any) -> Tensor:
    weight: Tensor = layer.lora_A[_adapter(layer)].weight
    return weight.to(_base(layer).weight.dtype)


def _b(layer: Any) -> Tensor:
    name = _adapter(layer)
    weight: Tensor = layer.lora_B[name].weight * layer.scaling[name]
    return weight.to(_base(layer).weight.dtype)


def _dropout(layer: Any) -> float:
    return float(getattr(layer.lora_dropout[_adapter(layer)], "p", 0.0))
