"""How many parameters a model has, and how many of them learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.records import Parameters

if TYPE_CHECKING:
    import torch


def count_parameters(model: torch.nn.Module) -> Parameters:
    """Trainable and total parameters of `model`; a tied one counts once (`Module.parameters` is by identity)."""
    parameters = list(model.parameters())
    return Parameters(
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        total=sum(p.numel() for p in parameters),
    )
