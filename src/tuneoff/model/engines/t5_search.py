"""Text search with a T5: all texts of a batch are written together, and a text that has ended is computed no more.

Shapes: B texts being written, P prompts, L layers of the decoder, H heads, K head width, S the longest prompt, T the
longest text, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tuneoff.model.base import start_token
from tuneoff.model.engines.cache import Cache
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.projections import apply_norm
from tuneoff.model.kernels.operations import GELU, attend, gated

if TYPE_CHECKING:
    from tuneoff.model.engines.t5 import T5Engine

ENCODED = 8  # prompts encoded together: enough for large matrix products, with little padding


@dataclass
class _Layer:
    """The weights of one decoder layer. Those that multiply the same input are joined."""

    norms: list[Any]
    qkv: Tensor
    own_out: Tensor
    q: Tensor
    cross_out: Tensor
    gates: Tensor
    out: Tensor


@dataclass
class Texts:
    """The texts that a search is writing.

    Attributes:
        token: The last token of each: (B).
        lengths: The number of tokens of each text's prompt: (B).
        cross: Keys and values of the prompts, one text for each prompt: (L, 2, places, H, S, K).
        cache: Keys and values of the texts: (L, 2, places, H, T, K).
        bias: The relative position bias of attention: (H, T, T).
        sources: The place of each text's prompt in `cross`, (B); None where they are read in order.
        step: The number of tokens written.
    """

    token: Tensor
    lengths: Tensor
    cross: Cache
    cache: Cache
    bias: Tensor
    sources: Tensor | None = None
    step: int = 0


class T5Search:
    """Searches for texts with a T5 that has no adapters: they are merged before.

    In fp32 the texts are token for token those of transformers' `generate`.
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
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, constraints: Constraints, at_once: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Write greedily for the longest prompts first, `at_once` of them together.

        Yields the number of each prompt and the tokens written for it.
        """
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]), reverse=True)
        for start in range(0, len(order), at_once):
            numbers = order[start : start + at_once]
            texts = self._write([prompts[n] for n in numbers], max_new_tokens, constraints)
            yield from zip(numbers, texts, strict=True)

    def _write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, constraints: Constraints
    ) -> list[list[int]]:
        """Write for all prompts together, which should have similar lengths. Returns the tokens of each text."""
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        rows = [[*prompt, *[0] * (width - len(prompt))] for prompt in prompts]
        texts, logits = self.begin(torch.tensor(rows, device=self._cross.device), lengths, max_new_tokens)
        written: list[list[int]] = [[] for _ in prompts]
        numbers = list(range(len(prompts)))  # the prompts of the texts that have not ended
        for step in range(1, max_new_tokens + 1):
            if constraints:
                so_far = [[start_token(self._t5), *written[n]] for n in numbers]
                logits = constraints.apply(logits.float(), so_far, [step - 1] * len(numbers))
            tokens = logits.max(-1).indices.tolist()  # as argmax, and quicker in bf16
            for number, token in zip(numbers, tokens, strict=True):
                written[number].append(token)
            going = [n for n, token in enumerate(tokens) if token not in constraints.ends]
            if not going or step == max_new_tokens:
                break
            self.branch(texts, going, [tokens[n] for n in going])
            numbers = [numbers[n] for n in going]
            logits = self.step(texts, step)
        return written

    @torch.no_grad()
    def begin(
        self, input_ids: Tensor, lengths: Sequence[int], max_new_tokens: int, beams: int = 1
    ) -> tuple[Texts, Tensor]:
        """Encode each prompt once, a few together, and allocate the cache for `beams` texts of each.

        `input_ids` (P, S) are padded on the right, and `lengths` are the numbers of their real tokens. Returns the
        texts, of which there is one for each prompt, and the logits of their first tokens: (P, V).
        """
        t5, count, prompts = self._t5, len(self._layers), len(lengths)
        cross = Cache(count, prompts, 1, self._heads, input_ids.shape[1], self._width, self._cross)
        cross.put(prompts)
        for start in range(0, prompts, ENCODED):
            part = slice(start, start + ENCODED)
            longest = max(lengths[part])
            encoded = self._engine.encode(input_ids[part, :longest], input_ids.new_tensor(lengths[part]))
            split = self._split(functional.linear(encoded, self._cross)).unflatten(2, (count, 2, self._heads))
            cross.block[:, :, part, :, :longest] = split.permute(2, 3, 0, 4, 1, 5)
        bias = t5.decoder.block[0].layer[0].SelfAttention.compute_bias(max_new_tokens, max_new_tokens)[0].float()
        own = input_ids.new_tensor(lengths)
        cache = Cache(count, prompts, beams, self._heads, max_new_tokens, self._width, self._cross)
        cache.put(prompts)
        sources = cross.places_of(cache.prompts)
        texts = Texts(torch.full_like(own, start_token(t5)), own, cross, cache, bias.contiguous(), sources)
        return texts, self.step(texts, 0)

    @torch.no_grad()
    def step(self, texts: Texts, step: int) -> Tensor:
        """The logits of the `step`-th token (counted from 0) of every text: (B, V)."""
        t5, slots, scattered = self._t5, texts.cache.slots, texts.cache.scattered
        bias = texts.bias[:, step]
        x = t5.decoder.embed_tokens(texts.token)[:, None]
        seen = torch.full_like(texts.lengths, step + 1)
        blocks = zip(self._layers, texts.cache.layers, texts.cross.layers, strict=True)
        for layer, (own_keys, own_values), (keys, values) in blocks:
            q, k, v = functional.linear(apply_norm(layer.norms[0], x), layer.qkv).chunk(3, dim=-1)
            own_keys[slots, :, step], own_values[slots, :, step] = self._split(k)[:, 0], self._split(v)[:, 0]
            y = attend(q, own_keys[:, :, : step + 1], own_values[:, :, : step + 1], seen, bias=bias, slots=scattered)
            x = x + functional.linear(y, layer.own_out)
            q = functional.linear(apply_norm(layer.norms[1], x), layer.q)
            x = x + functional.linear(attend(q, keys, values, texts.lengths, slots=texts.sources), layer.cross_out)
            gate, value = functional.linear(apply_norm(layer.norms[2], x), layer.gates).chunk(2, dim=-1)
            x = x + functional.linear(gated(gate, value, GELU), layer.out)
        texts.step = step + 1
        x = self._engine.scaled(apply_norm(t5.decoder.final_layer_norm, x)[:, 0])
        logits: Tensor = t5.lm_head(x)
        return logits

    def branch(self, texts: Texts, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Let text n continue what text `rows[n]` was with `tokens[n]`. Texts that are not named are dropped."""
        cache, cross = texts.cache, texts.cross
        cache.branch(rows, 0, texts.step)
        going = list(dict.fromkeys(cache.prompts))
        if going != cross.prompts:
            cross.branch([cross.prompts.index(prompt) for prompt in going], 0, cross.block.shape[4])
        texts.sources = cross.places_of(cache.prompts)
        texts.lengths = texts.lengths[texts.lengths.new_tensor(rows)]
        texts.token = texts.lengths.new_tensor(tokens)

    def _split(self, x: Tensor) -> Tensor:
        """Split the last dimension into heads: (…, n·H·K) → (…, n·H, K)."""
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
