"""A model with a part of an update: scaled, or cut to a low rank matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tuneoff.diagnose.stored import StoredWeights, matrices, weight_pairs


@torch.no_grad()
def set_scaled(subject: nn.Module, before: StoredWeights, after: StoredWeights, scale: float) -> None:
    """Give `subject` the weights W + scale · Δ: exactly those of `before` at 0, and of `after` at 1.

    All three have parameters of the same names; `subject` may have another dtype and device.
    """
    weights = dict(subject.named_parameters())
    for name, old, new in weight_pairs(before, after):
        weights[name].copy_(old if scale == 0 else new if scale == 1 else old + scale * (new - old))


@torch.no_grad()
def set_cut(
    subject: nn.Module, before: StoredWeights, after: StoredWeights, directions: Mapping[str, Tensor], rank: int
) -> None:
    """Give `subject` the weights W + Δᵣ, with Δᵣ the best approximation of Δ of that rank, matrix by matrix.

    By the truncated singular value decomposition (Eckart and Young 1936): Δᵣ = U Uᵀ Δ, with U (m, rank) the strongest
    left singular vectors of each matrix, from `directions` by name, which has as many or all that there are. What is no
    matrix (norms, biases) keeps all of its update, and so does a matrix with no more than `rank` rows or columns.
    """
    weights = dict(subject.named_parameters())
    for parameter, old, new in weight_pairs(before, after):
        weights[parameter].copy_(new)
        for name, base, trained, target in matrices(parameter, old, new, weights[parameter].data):
            left = directions.get(name)
            if left is not None and rank < min(base.shape):
                known = left[:, :rank].to(base.device)
                target.copy_(base + known @ (known.T @ (trained - base)))
