"""Products of one input with several weights as one, low-rank updates included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneoff.model.fast.operations import LowRank, dropout, rms_norm


def project(x: Tensor, layers: Sequence[nn.Module], norm: Any = None) -> Tensor:
    """The outputs of linear layers without bias on one input, side by side: (..., in) → (..., sum of outs).

    The input is normed first where a `norm` (T5's) is given. A layer is torch's, or peft's LoRA around one:
    y = W x + scaling · B A dropout(x) (Hu et al. 2021, equation 3).
    """
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


def suits(layer: nn.Module) -> bool:
    """Whether `project` computes all that `layer` does."""
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
