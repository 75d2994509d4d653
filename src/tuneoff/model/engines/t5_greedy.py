"""Greedy search with a T5: every product as large as it can be, and no work for texts that have ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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

    batches: ClassVar[int] = 1

    def __init__(self, engine: T5Engine) -> None:
        self._engine, self._t5 = engine, engine.t5
        stack = self._t5.decoder
        self._heads, self._width = stack.config.num_heads, stack.config.d_kv
        self._layers = [_layer(block) for block in stack.block]
        crossing = [block.layer[1].EncDecAttention for block in stack.block]
        self._cross = torch.cat([layer.weight for a in crossing for layer in (a.k, a.v)])

    @torch.no_grad()
    def write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int], at_once: int
    ) -> Iterator[tuple[int, list[int]]]:
        """The number of each prompt and the tokens written for it. The longest go first, `at_once` at a time."""
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]), reverse=True)
        for start in range(0, len(order), at_once):
            numbers = order[start : start + at_once]
            texts = self._write([prompts[n] for n in numbers], max_new_tokens, ends)
            yield from zip(numbers, texts, strict=True)

    def _write(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int]) -> list[list[int]]:
        """The tokens written for prompts of like lengths, all at once."""
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        rows = [[*prompt, *[0] * (width - len(prompt))] for prompt in prompts]
        state = self.begin(torch.tensor(rows, device=self._cross.device), lengths, max_new_tokens)
        written: list[list[int]] = [[] for _ in prompts]
        numbers = list(range(len(prompts)))  # of the texts that the search still holds
        for step in range(max_new_tokens):
            for number, token in zip(numbers, self.step(state, step).tolist(), strict=True):
                if not written[number] or written[number][-1] not in ends:
                    written[number].append(token)
            going = [n for n, number in enumerate(numbers) if written[number][-1] not in ends]
            if not going:
                break
            if len(going) <= COMPACT * len(numbers):
                state.keep(torch.tensor(going, device=self._cross.device))
                numbers = [numbers[n] for n in going]
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
            gate, value = functional.linear(apply_norm(layer.norms[2], x), layer.gates).chunk(2, dim=-1)
            x = x + functional.linear(gated(gate, value, GELU), layer.out)
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
