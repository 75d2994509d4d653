"""The plain engine: transformers and peft alone. It takes every model."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from tuneoff.model.engines.adapters import without_adapter

IGNORED = -100  # the label that no loss sees


class PlainEngine:
    """The loss of transformers' own forward pass, under autocast where training is in bf16."""

    name: ClassVar[str] = "plain"
    computes_in_weights_dtype: ClassVar[bool] = False
    merges_adapters: ClassVar[bool] = False
    checkpoints: ClassVar[bool] = True

    def __init__(self, model: Any, *, bf16: bool) -> None:
        self.model = model
        self.bf16 = bf16
        self._causal = not model.config.is_encoder_decoder
        base = without_adapter(model)
        virtual = base is not model and model.active_peft_config.is_prompt_learning
        self._chooses = self._causal and not virtual and "logits_to_keep" in signature(type(base).forward).parameters

    @classmethod
    def suits(cls, model: Any) -> str | None:
        """None: it takes every model."""
        return None

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy in nats, summed over the target tokens of `batch`."""
        return self._token_losses(batch).sum()

    @torch.no_grad()
    def losses(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The cross-entropy of each example in nats, summed over its targets, without gradient: (B) in fp32."""
        return self._token_losses(batch).sum(1)

    def real_rows(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        """The positions at which an example has a target, where the model can be asked for their logits alone."""
        return [int((batch["labels"][:, 1:] >= 0).any(0).sum())] if self._chooses else []

    def _token_losses(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss of each target, (B, positions) in fp32; 0 where there is none.

        A decoder-only model predicts the token at t at t - 1. Where it can be asked for the logits of some positions,
        it is asked for those at which an example has a target: all others cost time and memory for nothing.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        labels = batch["labels"]
        if self._causal:
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], 1)
        if self._chooses:
            chosen = (labels >= 0).any(0).nonzero().squeeze(1)
            labels, inputs = labels.index_select(1, chosen), {**inputs, "logits_to_keep": chosen}
        with self.autocast():
            logits = self.model(**inputs, use_cache=False).logits  # FSMT masks the future only without a cache
        # A method that puts virtual tokens before a decoder-only model's sequence gives their logits, too.
        logits, labels = logits[:, -labels.shape[1] :], labels.to(logits.device)
        flat = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
        return flat.view(labels.shape)

    def search(self) -> None:
        """None: texts are written by transformers' `generate`."""
        return

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass.

        With activation checkpointing autocast keeps no bf16 copies of the weights: they would stay alive until the
        forward pass is over, which is the memory that checkpointing is to save.
        """
        base = without_adapter(self.model)
        checkpointed = bool(getattr(base, "is_activation_checkpointing", False))
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=not checkpointed)
