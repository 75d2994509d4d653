"""The optimizer of a training: AdamW, which holds what is trained exactly whatever the method."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from tuneoff.model.engines import Engine
from tuneoff.recipe.training import TrainingSpec
from tuneoff.train.adamw import ExactAdamW

# Names of parameters that weight decay leaves out, as transformers' Trainer has them.
NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_optimizer(engine: Engine, spec: TrainingSpec, learning_rate: float, *, add_up: bool) -> torch.optim.Optimizer:
    """AdamW for every parameter of the engine's model that requires a gradient.

    Where an engine computes in the weights' own dtype, fp32 weights of the model itself are turned into bf16 ones that
    the optimizer holds exactly. Adapters stay fp32. With `add_up` a step has several backward passes.
    """
    model: Any = engine.model
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    hold_in_bf16 = engine.bf16 and engine.computes_in_weights_dtype and not hasattr(model, "get_base_model")
    groups = _groups(model, spec.weight_decay)
    if hold_in_bf16 or any(weight.dtype == torch.bfloat16 for weight in trained):
        return ExactAdamW(groups, lr=learning_rate, hold_in_bf16=hold_in_bf16, add_up=add_up)
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0, fused=True)


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    """The L2 norm of the gradient of all that is trained."""
    if isinstance(optimizer, ExactAdamW):
        return optimizer.gradient_norm()
    return float(nn.utils.get_total_norm([w.grad for w in _weights(optimizer) if w.grad is not None]))


def clip(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """Scale the gradient down to `max_norm`. Returns the norm that it had."""
    if not isinstance(optimizer, ExactAdamW):
        return float(nn.utils.clip_grad_norm_(_weights(optimizer), max_norm))
    norm = optimizer.gradient_norm()
    optimizer.gradient_scale = min(1.0, max_norm / (norm + 1e-6))
    return norm


@torch.no_grad()
def sum_over_processes(optimizer: torch.optim.Optimizer) -> None:
    """Replace the gradient of every weight by its sum over all processes.

    A process whose share of the step does not reach a weight adds zeros of the dtype that the others have.
    """
    for weight in _weights(optimizer):
        if isinstance(optimizer, ExactAdamW):
            gradient = optimizer.gradient(weight)
            gradient = optimizer.clear_gradient(weight) if gradient is None else gradient
        else:
            weight.grad = gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.distributed.all_reduce(gradient)


def _weights(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    decayed = set(get_parameter_names(model, [nn.LayerNorm], NOT_DECAYED))
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for name, weight in trained if name in decayed], "weight_decay": weight_decay},
        {"params": [weight for name, weight in trained if name not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
