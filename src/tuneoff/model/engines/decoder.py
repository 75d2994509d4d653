"""The engine for decoder-only models of Llama's kind: transformers' own function, in fewer steps and unpadded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tuneoff.model.engines.adapters import objection_to_method, without_adapter
from tuneoff.model.engines.decoder_layers import Layer, Packing, activation_of, linear_layers, parts_of
from tuneoff.model.engines.decoder_search import DecoderSearch
from tuneoff.model.engines.engine import TextSearch
from tuneoff.model.engines.projections import apply_norm, head_logits, head_loss, head_token_losses, is_known

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Gemma", "Gemma2", "Gemma3", "Phi3", "Olmo2", "Granite")

CHANGING = {"dynamic", "longrope"}  # rotary embeddings whose angles depend on how long a text has become


class DecoderEngine:
    """The loss and the text of a decoder-only model, by the weights of a transformers or peft model.

    It owns no weights. The examples of a batch lie one after another, without padding, and each sees itself alone. A
    layer that an adapter wraps in a way that is not known here is called as it is.
    """

    name: ClassVar[str] = "decoder"
    computes_in_weights_dtype: ClassVar[bool] = True
    merges_adapters: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True

    def __init__(self, model: Any, *, bf16: bool) -> None:
        self.model, self.bf16 = model, bf16
        self.base = without_adapter(model)
        decoder, config = self.base.model, self.base.config
        self.layers = [Layer(block, n) for n, block in enumerate(decoder.layers[: config.num_hidden_layers])]
        self._cap = float(getattr(config, "final_logit_softcapping", None) or 0.0)

    @classmethod
    def suits(cls, model: Any) -> str | None:
        """None if every part of `model` that this engine does not call is one that it computes itself."""
        base = without_adapter(model)
        name = type(base).__name__
        if name not in {f"{family}ForCausalLM" for family in FAMILIES}:
            return f"it computes decoder-only models of Llama's kind, and not {name}"
        home = type(base).__module__
        objection = objection_to_method(model, home)
        if objection is not None:
            return objection
        replaced = next((what for what, part in _parts(base) if type(part).__module__ != home), None)
        return f"the method replaces {replaced}" if replaced else _unknown(base)

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy in nats, summed over the target tokens.

        `input_ids`, `attention_mask` and `labels` are (B, T), padded on the right; labels are -100 where there is no
        target, and the token at t is predicted at t - 1.
        """
        rows, targets, _ = self._targets(batch)
        return head_loss(rows, self.base.lm_head, targets, self._cap)

    @torch.no_grad()
    def losses(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The cross-entropy of each example in nats, summed over its targets, without gradient: (B)."""
        rows, targets, examples = self._targets(batch)
        found = head_token_losses(rows, self.base.lm_head, targets, self._cap)
        return found.new_zeros(len(batch["labels"])).index_add(0, examples, found)

    def real_rows(self, batch: Mapping[str, Tensor]) -> list[int]:
        """The tokens, and the targets."""
        return [int(batch["attention_mask"].sum()), int((batch["labels"][:, 1:] >= 0).sum())]

    def search(self) -> TextSearch | None:
        """The engine's own search, for a model without adapters (they are merged before)."""
        plain = self.base is self.model and all(
            type(layer) is nn.Linear and is_known(layer)
            for block in self.base.model.layers
            for layer in linear_layers(block)
        )
        return DecoderSearch(self) if plain and not _kinds_of_rotary(self.base.config) & CHANGING else None

    def embed(self, ids: Tensor) -> Tensor:
        """The embeddings of token ids (N): (N, D)."""
        decoder = self.base.model
        x: Tensor = decoder.embed_tokens(ids)
        multiplier = getattr(decoder, "embedding_multiplier", 1.0)
        return x if multiplier == 1 else x * multiplier

    def packing(self, positions: Tensor, places: Tensor, rows: int, width: int, longest: int) -> Packing:
        """Where the tokens of a batch are, with the angles of all positions below `longest`."""
        rotary = self.base.model.rotary_emb
        every = torch.arange(longest, device=positions.device)[None]
        like = torch.empty(0, dtype=torch.float32, device=positions.device)
        kinds = {layer.kind for layer in self.layers}
        found = {kind: rotary(like, every) if kind is None else rotary(like, every, kind) for kind in kinds}
        angles = {kind: (c[0].contiguous(), s[0].contiguous()) for kind, (c, s) in found.items()}
        return Packing(positions, places, rows, width, angles)

    def finished(self, x: Tensor) -> Tensor:
        """What the output layer gets of the last layer's output (n, D)."""
        x = apply_norm(self.base.model.norm, x)
        divisor = getattr(self.base, "logits_scaling", None) or getattr(self.base.config, "logits_scaling", 1.0)
        return x if divisor == 1 else x / divisor

    def logits(self, x: Tensor) -> Tensor:
        """The logits of the last layer's output (n, D): (n, V)."""
        return head_logits(self.finished(x), self.base.lm_head, self._cap)

    def _targets(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the output layer gets where a target is predicted (n, D), the targets, and the examples of both."""
        mask, labels = batch["attention_mask"], batch["labels"]
        count, width = mask.shape
        places = mask.flatten().nonzero().squeeze(1)
        following = torch.cat([labels[:, 1:], labels.new_full((count, 1), -100)], 1).flatten().index_select(0, places)
        predicted = (following >= 0).nonzero().squeeze(1)
        packing = self.packing(places % width, places, count, width, width)
        x = self.embed(batch["input_ids"].flatten().index_select(0, places))
        for layer in self.layers:
            x = checkpoint(layer, x, packing, use_reentrant=False) if self._checkpoints_now() else layer(x, packing)
        examples = (places // width).index_select(0, predicted)
        return self.finished(x.index_select(0, predicted)), following.index_select(0, predicted), examples

    def _checkpoints_now(self) -> bool:
        return (
            bool(getattr(self.base, "is_activation_checkpointing", False))
            and self.base.training
            and torch.is_grad_enabled()
        )


def _kinds_of_rotary(config: Any) -> set[str]:
    """The kinds of rotary embedding: one for all layers, or one for each kind of layer."""
    settings = config.rope_parameters
    found = [settings] if "rope_type" in settings else settings.values()
    return {str(own.get("rope_type", "default")) for own in found if own}


def _parts(base: Any) -> Iterator[tuple[str, Any]]:
    """Every module between the model and its layers, which this engine computes without calling it."""
    yield "the decoder", base.model
    for block in base.model.layers:
        yield from parts_of(block)


def _unknown(base: Any) -> str | None:
    """What of a model's settings this engine does not compute."""
    config = base.config
    layer = Layer(base.model.layers[0], 0)
    if layer.activation is None:
        return f"it computes gates of SiLU and of GELU's tanh form, and this model has {activation_of(base)}"
    if not base.model.layers[0].self_attn.is_causal:
        return "its tokens see those that come after them"
    if getattr(config, "resid_pdrop", 0.0):
        return "it has dropout between its layers"
    return None
