"""The weights of a model that are trained: drawn anew, and their gradients."""

from __future__ import annotations

from typing import Any

import torch


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """In fp32, by name. The model has none afterwards."""
    found = {name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def draw_lora(model: Any, part: str = "lora_B", std: float = 0.05) -> None:
    """Draw the weights with `part` in their names: adapters that begin as nothing would hide what is wrong."""
    for name, weight in model.named_parameters():
        if part in name:
            torch.nn.init.normal_(weight, std=std)


def move_trained(model: Any) -> None:
    """Move every weight that is trained a little, for the same reason."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)
