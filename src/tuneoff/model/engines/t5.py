"""The engine for the T5 family: transformers' own function, on the weights of a transformers or peft model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tuneoff.model.engines.adapters import objection_to_method, without_adapter
from tuneoff.model.engines.engine import TextSearch
from tuneoff.model.engines.projections import (
    apply_norm,
    head_loss,
    head_token_losses,
    is_known,
    is_rms_norm,
    project,
    project_gated,
)
from tuneoff.model.engines.t5_search import T5Search
from tuneoff.model.kernels.operations import GELU, add_dropout, attention, dropout

FAMILIES = ("transformers.models.t5.modeling_t5", "transformers.models.mt5.modeling_mt5")
CLASSES = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")


class T5Engine:
    """The loss of a T5 with gated GELU (T5 v1.1, Flan-T5, mT5), as transformers computes it, in fewer operations.

    It owns no weights. A layer that an adapter wraps in a way that is not known here is called as it is.
    """

    name: ClassVar[str] = "t5"
    computes_in_weights_dtype: ClassVar[bool] = True
    merges_adapters: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = False

    def __init__(self, model: Any, *, bf16: bool) -> None:
        self.model, self.bf16 = model, bf16
        self.t5 = without_adapter(model)

    @classmethod
    def suits(cls, model: Any) -> str | None:
        """None if every part of `model` that this engine does not call is one that it computes itself."""
        t5 = without_adapter(model)
        config = t5.config
        if type(t5).__name__ not in CLASSES:
            return "it computes the T5 family alone"
        if not config.is_gated_act or config.dense_act_fn != "gelu_new":
            return f"it computes gated GELU, and this T5 has {config.feed_forward_proj}"
        objection = objection_to_method(model, type(t5).__module__)
        return objection or next((f"the method replaces {name}" for name, part in _parts(t5) if _replaced(part)), None)

    def real_rows(self, batch: Mapping[str, Tensor]) -> list[int]:
        """The targets."""
        return [int((batch["labels"] >= 0).sum())]

    def search(self) -> TextSearch | None:
        """The engine's own search, for a model without adapters (they are merged before)."""
        plain = self.t5 is self.model and all(
            type(layer) is nn.Linear and is_known(layer) for layer in _linear(self.t5)
        )
        norms = all(is_rms_norm(m) for m in self.t5.modules() if type(m).__name__.endswith("LayerNorm"))
        return T5Search(self) if plain and norms else None

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy in nats, summed over the target tokens.

        `input_ids` and `attention_mask` (B, S) are padded on the right; `decoder_input_ids` and `labels` are (B, T),
        and labels are -100 where there is no target.
        """
        decoded, targets, _ = self._targets(batch)
        return head_loss(decoded, self.t5.lm_head, targets)

    @torch.no_grad()
    def losses(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The cross-entropy of each example in nats, summed over its targets, without gradient: (B)."""
        decoded, targets, examples = self._targets(batch)
        found = head_token_losses(decoded, self.t5.lm_head, targets)
        return found.new_zeros(len(batch["labels"])).index_add(0, examples, found)

    def _targets(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the output layer gets where there is a target (n, D), the targets, and the examples that they are of."""
        input_ids, labels = batch["input_ids"], batch["labels"].flatten()
        real = (labels >= 0).nonzero().squeeze(1)
        source, target = self._embed(input_ids, batch["decoder_input_ids"])
        lengths = batch["attention_mask"].sum(1)
        encoded = self._encode(source, lengths)
        decoded = self._decode(target, encoded, lengths).flatten(0, 1).index_select(0, real)
        return self.scaled(decoded), labels.index_select(0, real), real // batch["labels"].shape[1]

    def encode(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """What the decoder sees of `input_ids` (B, S), padded on the right, of `lengths` (B): (B, S, D)."""
        return self._encode(self.t5.encoder.embed_tokens(input_ids), lengths)

    def scaled(self, decoded: Tensor) -> Tensor:
        """The decoder's output as the output layer gets it: T5 with tied embeddings scales it, mT5 never does."""
        return decoded * self.t5.model_dim**-0.5 if getattr(self.t5.config, "scale_decoder_outputs", False) else decoded

    def _embed(self, input_ids: Tensor, decoder_input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of both stacks, (B, S, D) and (B, T, D)."""
        first, second = self.t5.encoder.embed_tokens, self.t5.decoder.embed_tokens
        if not (type(first) is type(second) is nn.Embedding and first.weight is second.weight):
            return first(input_ids), second(decoder_input_ids)
        # One look-up, so that the embedding has one gradient in place of one a stack.
        embedded = first(torch.cat([input_ids.reshape(-1), decoder_input_ids.reshape(-1)]))
        source, target = embedded[: input_ids.numel()], embedded[input_ids.numel() :]
        return source.view(*input_ids.shape, -1), target.view(*decoder_input_ids.shape, -1)

    def _encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        stack = self.t5.encoder
        p = stack.config.dropout_rate if stack.training else 0.0
        x = dropout(x, p)
        bias = _bias(stack, x.shape[1])
        for block in stack.block:
            x = _self_attention(block.layer[0], x, bias, lengths, False, p)
            x = _feed_forward(block.layer[1], x, p)
        return dropout(apply_norm(stack.final_layer_norm, x), p)

    def _decode(self, x: Tensor, encoded: Tensor, lengths: Tensor) -> Tensor:
        stack = self.t5.decoder
        p = stack.config.dropout_rate if stack.training else 0.0
        # The keys and values of all layers in one product.
        crossing = [block.layer[1].EncDecAttention for block in stack.block]
        seen = project(encoded, [layer for a in crossing for layer in (a.k, a.v)])
        heads = [_split(x, crossing[0].key_value_proj_dim) for x in seen]
        x = dropout(x, p)
        bias = _bias(stack, x.shape[1])
        own = torch.full_like(lengths, x.shape[1])
        for n, block in enumerate(stack.block):
            x = _self_attention(block.layer[0], x, bias, own, True, p)
            layer = block.layer[1]
            (q,) = project(x, [crossing[n].q], layer.layer_norm)
            k, v = heads[2 * n : 2 * n + 2]
            y = attention(_split(q, crossing[n].key_value_proj_dim), k, v, None, lengths, False, p)
            (out,) = project(_join(y), [crossing[n].o])
            x = add_dropout(x, out, p)
            x = _feed_forward(block.layer[2], x, p)
        return dropout(apply_norm(stack.final_layer_norm, x), p)


def _self_attention(layer: Any, x: Tensor, bias: Tensor, lengths: Tensor, causal: bool, p: float) -> Tensor:
    own = layer.SelfAttention
    q, k, v = (_split(y, own.key_value_proj_dim) for y in project(x, [own.q, own.k, own.v], layer.layer_norm))
    (out,) = project(_join(attention(q, k, v, bias, lengths, causal, p)), [own.o])
    return add_dropout(x, out, p)


def _feed_forward(layer: Any, x: Tensor, p: float) -> Tensor:
    dense = layer.DenseReluDense
    gate, value = project(x, [dense.wi_0, dense.wi_1], layer.layer_norm)
    (out,) = project_gated(gate, value, [dense.wo], GELU, p)
    return add_dropout(x, out, p)


def _bias(stack: Any, length: int) -> Tensor:
    """(H, S, S) in fp32, once for all layers."""
    bias: Tensor = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)
    return bias[0].float().contiguous()


def _split(x: Tensor, width: int) -> Tensor:
    """(B, S, H·K) → (B, H, S, K)"""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """(B, H, S, K) → (B, S, H·K)"""
    return x.transpose(1, 2).flatten(2)


def _parts(t5: Any) -> Iterator[tuple[str, Any]]:
    """Every module between the model and its layers, which this engine computes without calling it."""
    yield "the encoder", t5.encoder
    yield "the decoder", t5.decoder
    for stack in (t5.encoder, t5.decoder):
        for block in stack.block:
            yield "a block", block
            for layer in block.layer:
                yield "a layer of a block", layer
            yield "an attention", block.layer[0].SelfAttention
            yield "a feed-forward layer", block.layer[-1].DenseReluDense
            if stack.is_decoder:
                yield "an attention", block.layer[1].EncDecAttention


def _replaced(part: Any) -> bool:
    return type(part).__module__ not in FAMILIES


def _linear(t5: Any) -> list[nn.Module]:
    """Every linear layer: those of the attentions and feed-forward layers, and the output layer."""
    found = [t5.lm_head]
    for stack in (t5.encoder, t5.decoder):
        for block in stack.block:
            found += [getattr(block.layer[0].SelfAttention, name) for name in ("q", "k", "v", "o")]
            found += [getattr(block.layer[-1].DenseReluDense, name) for name in ("wi_0", "wi_1", "wo")]
            if stack.is_decoder:
                found += [getattr(block.layer[1].EncDecAttention, name) for name in ("q", "k", "v", "o")]
    return found
