"""The cross-entropy of an output layer's logits, a few rows at a time: they are never all held.

With n rows of width D and a vocabulary of V, all logits would be n · V numbers, and as many for their gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tuneoff.model.kernels.native import call
from tuneoff.model.kernels.operations import is_native

LOGITS_BYTES = 2**26  # of the logits that are held at once
LEAST_ROWS = 64  # at once, whatever the vocabulary: products of fewer are slow


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, cap: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed, of the logits cap(x weightᵀ): x (n, D), weight (V, D), targets (n).

    cap(l) is cap · tanh(l / cap), or l where `cap` is 0. The gradient is computed on the way, and only then.
    """
    total: Tensor = _LinearCrossEntropy.apply(x, weight, targets, cap, torch.is_grad_enabled())
    return total


@torch.no_grad()
def linear_token_losses(x: Tensor, weight: Tensor, targets: Tensor, cap: float = 0.0) -> Tensor:
    """The cross-entropy of each row, in nats, without gradient: (n) in fp32."""
    size = _rows_at_once(weight)
    parts = [_losses(part @ weight.T, own, cap) for part, own in zip(x.split(size), targets.split(size), strict=True)]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.float32)


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float, learns: bool) -> Tensor:
        size = _rows_at_once(weight)
        total = x.new_zeros((), dtype=torch.float32)
        dx = torch.empty_like(x) if learns and ctx.needs_input_grad[0] else None
        dweight: Tensor | None = None
        for start in range(0, len(x), size):
            part = x[start : start + size]
            logits = part @ weight.T
            total += _losses(logits, targets[start : start + size], cap).sum()  # the logits are now their gradient
            if dx is not None:
                torch.mm(logits, weight, out=dx[start : start + size])
            if learns and ctx.needs_input_grad[1]:
                own = logits.T @ part
                # Sums of several parts are rounded once.
                dweight = own if len(x) <= size else own.float() if dweight is None else dweight.add_(own)
        ctx.gradients = dx, None if dweight is None else dweight.to(weight.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("the gradient of this loss was taken before, and is not kept for a second time")
        dx, dweight = (None if gradient is None else gradient.mul_(dtotal) for gradient in ctx.gradients)
        ctx.gradients = None
        return dx, dweight, None, None, None


def _rows_at_once(weight: Tensor) -> int:
    return max(LEAST_ROWS, LOGITS_BYTES // (weight.shape[0] * weight.element_size()))


def _losses(logits: Tensor, targets: Tensor, cap: float) -> Tensor:
    """The loss of each row in fp32. The logits, before the cap, are overwritten by their gradient."""
    bent = None
    if cap:
        bent = torch.tanh(logits.float() / cap)
        logits.copy_(bent * cap)
    if is_native(logits):
        losses = logits.new_empty(len(logits), dtype=torch.float32)
        call("cross_entropy", logits, *logits.shape, logits, targets, losses)
    else:
        log_shares = logits.float().log_softmax(-1)
        losses = -log_shares.gather(1, targets[:, None]).squeeze(1)
        shares = log_shares.exp()
        shares.scatter_add_(1, targets[:, None], -torch.ones_like(losses)[:, None])
        logits.copy_(shares)
    if bent is not None:
        logits.mul_(1 - bent.square())
    return losses
