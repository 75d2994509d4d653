"""The T5 family's forward pass for training, on the weights of a transformers model or of peft's around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuneoff.model.fast.operations import (
    add_dropout,
    attention,
    dropout,
    gated_gelu,
    rms_norm,
    summed_cross_entropy,
)
from tuneoff.model.fast.projections import project, suits

ATTENTION, FEED_FORWARD = ("q", "k", "v", "o"), ("wi_0", "wi_1", "wo")


class FastT5:
    """The loss of a T5 (v1.1, Flan, mT5: gated GELU), as transformers computes it, in fewer operations.

    It owns no weights: `model` is trained, saved and loaded as ever.
    """

    def __init__(self, model: nn.Module) -> None:
        self.t5 = _base(model)

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Whether the model is one whose every part is known here."""
        t5 = _base(model)
        config = t5.config
        if config.model_type not in ("t5", "mt5") or getattr(config, "dense_act_fn", "") != "gelu_new":
            return False
        if not config.is_gated_act or type(t5).__name__ not in (
            "T5ForConditionalGeneration",
            "MT5ForConditionalGeneration",
        ):
            return False
        if getattr(model, "active_peft_config", None) is not None and model.active_peft_config.is_prompt_learning:
            return False
        return all(suits(layer) for layer in _layers(t5)) and type(t5.shared) is nn.Embedding

    def loss(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the target tokens.

        `input_ids` and `attention_mask` (B, S), padded on the right; `labels` (B, T), -100 where there is none.
        """
        t5 = self.t5
        real = (labels.flatten() >= 0).nonzero().squeeze(1)  # the rows that the loss sees
        previous = t5._shift_right(labels)
        # One gradient for the embedding in place of one a stack.
        ids = torch.cat([input_ids.reshape(-1), previous.reshape(-1)])
        embedded = t5.shared(ids)
        source = embedded[: input_ids.numel()].view(*input_ids.shape, -1)
        target = embedded[input_ids.numel() :].view(*labels.shape, -1)
        lengths = attention_mask.sum(1)
        encoded = self._encode(source, lengths)
        decoded = self._decode(target, encoded, lengths).flatten(0, 1).index_select(0, real)
        if t5.config.scale_decoder_outputs:
            decoded = decoded * t5.model_dim**-0.5
        return summed_cross_entropy(project(decoded, [t5.lm_head]), labels.flatten().index_select(0, real))

    def encode(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """What the decoder sees of `input_ids` (B, S), padded on the right, of `lengths` (B): (B, S, D)."""
        return self._encode(self.t5.shared(input_ids), lengths)

    def _encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        stack = self.t5.encoder
        p = stack.config.dropout_rate if stack.training else 0.0
        x = dropout(x, p)
        bias = _bias(stack, x.shape[1])
        for block in stack.block:
            x = _self_attention(block.layer[0], x, bias, lengths, False, p)
            x = _feed_forward(block.layer[1], x, p)
        return dropout(_norm(stack.final_layer_norm, x), p)

    def _decode(self, x: Tensor, encoded: Tensor, lengths: Tensor) -> Tensor:
        stack = self.t5.decoder
        p = stack.config.dropout_rate if stack.training else 0.0
        # The keys and values of all layers in one product.
        crossing = [block.layer[1].EncDecAttention for block in stack.block]
        seen = project(encoded, [layer for a in crossing for layer in (a.k, a.v)])
        heads = _split(seen, crossing[0].key_value_proj_dim).unflatten(1, (2 * len(crossing), -1)).unbind(1)
        x = dropout(x, p)
        bias = _bias(stack, x.shape[1])
        own = torch.full_like(lengths, x.shape[1])
        for n, block in enumerate(stack.block):
            x = _self_attention(block.layer[0], x, bias, own, True, p)
            layer = block.layer[1]
            q = _split(project(x, [crossing[n].q], layer.layer_norm), crossing[n].key_value_proj_dim)
            y = attention(q, heads[2 * n], heads[2 * n + 1], None, lengths, False, p)
            x = add_dropout(x, project(_join(y), [crossing[n].o]), p)
            x = _feed_forward(block.layer[2], x, p)
        return dropout(_norm(stack.final_layer_norm, x), p)


def _self_attention(layer: Any, x: Tensor, bias: Tensor, lengths: Tensor, causal: bool, p: float) -> Tensor:
    own = layer.SelfAttention
    qkv = _split(project(x, [own.q, own.k, own.v], layer.layer_norm), own.key_value_proj_dim)
    q, k, v = qkv.chunk(3, dim=1)
    return add_dropout(x, project(_join(attention(q, k, v, bias, lengths, causal, p)), [own.o]), p)


def _feed_forward(layer: Any, x: Tensor, p: float) -> Tensor:
    dense = layer.DenseReluDense
    h = project(x, [dense.wi_0, dense.wi_1], layer.layer_norm)
    return add_dropout(x, project(gated_gelu(h, p), [dense.wo]), p)


def _norm(layer: Any, x: Tensor) -> Tensor:
    return rms_norm(x, layer.weight, layer.variance_epsilon)


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


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _layers(t5: Any) -> list[nn.Module]:
    found = [t5.lm_head]
    for stack in (t5.encoder, t5.decoder):
        for block in stack.block:
            found += [getattr(block.layer[0].SelfAttention, name) for name in ATTENTION]
            found += [getattr(block.layer[-1].DenseReluDense, name) for name in FEED_FORWARD]
            if stack.is_decoder:
                found += [getattr(block.layer[1].EncDecAttention, name) for name in ATTENTION]
    return found
