"""The loss of a micro-batch, scaled so that no split of a step's examples changes its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tuneoff.data.tokens import IGNORED
from tuneoff.model.base import ModelClass

LossFunction = Callable[..., torch.Tensor]


def token_loss(kind: ModelClass) -> LossFunction:
    """A `compute_loss_func` for transformers' Trainer.

    It sums cross-entropy over the target tokens of the micro-batch and divides by the target tokens
    of the whole optimizer step (`num_items_in_batch`, gathered over devices), so micro-batches add
    up to the step's mean. Not the model's own loss: T5's divides by the micro-batch's tokens, and
    Trainer believes otherwise.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        total = summed_cross_entropy(outputs.logits, labels, kind)
        count = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum()
        return total / count

    return loss


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, kind: ModelClass) -> torch.Tensor:
    """Cross-entropy in nats, summed over the target tokens. `logits` (B, T', V), `labels` (B, T).

    T' is longer than T where a method puts virtual tokens before the sequence: the last T count.
    """
    logits = logits[:, -labels.shape[1] :]  # (B, T, V)
    if kind == "causal":  # position t predicts token t + 1
        logits, labels = logits[:, :-1], labels[:, 1:]
    targets = labels.reshape(-1).to(logits.device)
    return cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets, ignore_index=IGNORED, reduction="sum")
