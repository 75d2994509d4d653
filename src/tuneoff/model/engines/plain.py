"""The plain engine: transformers and peft alone. It takes every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

IGNORED = -100  # the label that no loss sees


class PlainEngine:
    """The loss of transformers' own forward pass, under autocast where training is in bf16."""

    name: ClassVar[str] = "plain"
    computes_in_weights_dtype: ClassVar[bool] = False
    merges_adapters: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    checkpoints: ClassVar[bool] = True

    def __init__(self, model: Any, *, bf16: bool) -> None:
        self.model = model
        self.bf16 = bf16
        self._causal = not model.config.is_encoder_decoder

    @classmethod
    def suits(cls, model: Any) -> str | None:
        """None: it takes every model."""
        return None

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy in nats, summed over the target tokens of `batch`."""
        return summed_cross_entropy(self._logits(batch), batch["labels"], causal=self._causal)

    @torch.no_grad()
    def losses(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The same of each example of the batch, without gradient: (B) in fp32."""
        logits, labels = self._logits(batch), batch["labels"]
        each = [summed_cross_entropy(logits[n : n + 1], labels[n : n + 1], causal=self._causal) for n in range(len(labels))]
        return torch.stack(each)

    def _logits(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with self.autocast():
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits  # FSMT masks the future only without one
        return logits

    def greedy(self) -> None:
        """None: texts are written by transformers' `generate`."""
        return

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass.

        With activation checkpointing autocast keeps no bf16 copies of the weights: they would stay alive until the
        forward pass is over, which is the memory that checkpointing is to save.
        """
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        checkpointed = bool(getattr(base, "is_activation_checkpointing", False))
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=not checkpointed)


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Cross-entropy in nats, summed over the target tokens. `logits` (B, T', V), `labels` (B, T).

    T' is longer than T where a method puts virtual tokens before the sequence of a decoder-only model: then the last T
    count. For a decoder-only model (`causal`) position t predicts token t + 1.
    """
    logits = logits[:, -labels.shape[1] :]  # (B, T, V)
    if causal:
        logits, labels = logits[:, :-1], labels[:, 1:]
    targets = labels.reshape(-1).to(logits.device)
    return cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets, ignore_index=IGNORED, reduction="sum")
