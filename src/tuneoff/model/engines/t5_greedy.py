"""Greedy search with a T5: every product as large as it can be, and no work for texts that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from tuneoff.model.base import start_token
from tuneoff.model.engines.projections import apply_norm
from tuneoff.model.kernels.operations import GELU, attend, gated

if TYPE_CHECKING:
    from tuneoff.model.engines.t5 import T5Engine

ENCODED = 8  # inputs at a time: long products all the same, and little padding
COMPACT = 0.75  # share of texts not ended at which the others' rows are let go


@dataclass
class _Layer:
    """A decoder layer's weights, those with the same input as one."""

    norms: list[Any]
    qkv: Tensor
    own_out: Tensor
    q: Tensor
    cross_out: Tensor
    gates: Tensor
    out: Tensor


@dataclass
class Search:
    """Texts being written: their last tokens (B), keys and values of the inputs (B, 2·L·H, S, K) and of the tokens
    so far (L, 2, B, H, T, K).
    """

    token: Tensor
    lengths: Tensor
    cross: Tensor
    cache: Tensor
    bias: Tensor

    def keep(self, going: Tensor) -> None:
        """Let go of the texts that have ended."""
        self.token, self.lengths = self.token[going], self.lengths[going]
        self.cross, self.cache = self.cross[going], self.cache[:, :, going]


class GreedyT5:
    """What transformers' `generate` of a T5 writes by greedy search, token for token in fp32.

    The model has no adapters (they are merged before).
    """

    def __init__(self, engine: T5Engine) -> None:
        self._engine, self._t5 = engine, engine.t5
        stack = self._t5.decoder
        self._heads, self._width = stack.config.num_heads, stack.config.d_kv
        self._layers = [_layer(block) for block in stack.block]
        crossing = [block.layer[1].EncDecAttention for block in stack.block]
        self._cross = torch.cat([layer.weight for a in crossing for layer in (a.k, a.v)])

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, lengths: Sequence[int], max_new_tokens: int, ends: list[int]) -> Tensor:
        """The tokens written for `input_ids` (B, S), padded on the right: (B, at most `max_new_tokens`), padded.

        Little is padded in the encoder where inputs of like `lengths` follow each other.
        """
        state = self.begin(input_ids, lengths, max_new_tokens)
        rows = torch.arange(len(input_ids), device=input_ids.device)
        written = input_ids.new_full((len(input_ids), max_new_tokens), self._t5.config.pad_token_id)
        stops = torch.tensor(ends, device=input_ids.device)
        going = torch.ones_like(rows, dtype=torch.bool)
        for step in range(max_new_tokens):
            token = self.step(state, step)
            written[rows, step] = torch.where(going, token, self._t5.config.pad_token_id)
            going = going & ~torch.isin(token, stops)
            left = int(going.sum())
            if left == 0:
                return written[:, : step + 1]
            if left <= COMPACT * len(rows):
                rows = rows[going]
                state.keep(going)
                going = torch.ones_like(rows, dtype=torch.bool)
        return written

    @torch.no_grad()
    def begin(self, input_ids: Tensor, lengths: Sequence[int], max_new_tokens: int) -> Search:
        """Encode the inputs, a few at a time, and make room for the tokens to come."""
        t5, count = self._t5, len(self._layers)
        cross = self._cross.new_zeros(len(input_ids), 2 * count * self._heads, input_ids.shape[1], self._width)
        for start in range(0, len(lengths), ENCODED):
            part = slice(start, start + ENCODED)
            longest = max(lengths[part])
            encoded = self._engine.encode(input_ids[part, :longest], input_ids.new_tensor(lengths[part]))
            cross[part, :, :longest] = self._split(functional.linear(encoded, self._cross)).transpose(1, 2)
        bias = t5.decoder.block[0].layer[0].SelfAttention.compute_bias(max_new_tokens, max_new_tokens)[0].float()
        own = input_ids.new_tensor(lengths)
        return Search(
            token=torch.full_like(own, start_token(t5)),
            lengths=own,
            cross=cross,
            cache=cross.new_zeros(count, 2, len(input_ids), self._heads, max_new_tokens, self._width),
            bias=bias.contiguous(),
        )

    @torch.no_grad()
    def step(self, state: Search, step: int) -> Tensor:
        """The next token (B) of every text, as the `step`-th."""
        t5, cross, cache = self._t5, state.cross, state.cache
        bias = state.bias[:, step]
        x = t5.decoder.embed_tokens(state.token)[:, None]
        seen = torch.full_like(state.lengths, step + 1)
        for n, layer in enumerate(self._layers):
            q, k, v = functional.linear(apply_norm(layer.norms[0], x), layer.qkv).chunk(3, dim=-1)
            cache[n, :, :, :, step] = self._split(torch.stack([k, v])[:, :, 0])
            keys, values = cache[n, 0, :, :, : step + 1], cache[n, 1, :, :, : step + 1]
            x = x + functional.linear(attend(q, keys, values, seen, bias=bias), layer.own_out)
            q = functional.linear(apply_norm(layer.norms[1], x), layer.q)
            at = 2 * n * self._heads
            keys, values = cross[:, at : at + self._heads], cross[:, at + self._heads : at + 2 * self._heads]
            x = x + functional.linear(attend(q, keys, values, state.lengths), layer.cross_out)
            h = gated(*functional.linear(apply_norm(layer.norms[2], x), layer.gates).chunk(2, dim=-1), GELU)
            x = x + functional.linear(h, layer.out)
        x = self._engine.scaled(apply_norm(t5.decoder.final_layer_norm, x)[:, 0])
        state.token = t5.lm_head(x).max(-1).indices  # as argmax, and quicker in bf16
        return state.token

    def _split(self, x: Tensor) -> Tensor:
        """(…, n·H·K) → (…, n·H, K)"""
        return x.unflatten(-1, (-1, self._width))


def _layer(block: Any) -> _Layer:
    own, cross, dense = block.layer[0].SelfAttention, block.layer[1].EncDecAttention, block.layer[2].DenseReluDense
    return _Layer(
        norms=[layer.layer_norm for layer in block.layer],
        qkv=torch.cat([own.q.weight, own.k.weight, own.v.weight]).detach(),
        own_out=own.o.weight,
        q=cross.q.weight,
        cross_out=cross.o.weight,
        gates=torch.cat([dense.wi_0.weight, dense.wi_1.weight]).detach(),
        out=dense.wo.weight,
    )
