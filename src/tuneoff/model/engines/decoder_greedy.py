"""Greedy search with a decoder-only model: prompts are read unpadded, and a finished text makes room for the next.

Shapes: B texts being written at once, L layers, G heads of keys and values, K head width, T the longest text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tuneoff.model.engines.decoder_layers import Packing
from tuneoff.model.kernels.operations import attend, is_native

if TYPE_CHECKING:
    from tuneoff.model.engines.decoder import DecoderEngine

READ = 8  # prompts at a time: long products all the same, and few activations


@dataclass
class Search:
    """Texts being written: their last tokens (B), how many tokens before them are read (B), their places in the cache
    (B), and the keys and values of all places, (L, 2, places, G, T, K).
    """

    token: Tensor
    lengths: Tensor
    slots: Tensor
    cache: Tensor
    packing: Packing


class GreedyDecoder:
    """What transformers' `generate` writes by greedy search, token for token in fp32.

    The model has no adapters (they are merged before).
    """

    batches: ClassVar[int] = 4

    def __init__(self, engine: DecoderEngine) -> None:
        self._engine, self._layers = engine, engine.layers
        weight = engine.base.lm_head.weight
        self._dtype, self._device = weight.dtype, weight.device

    @torch.no_grad()
    def write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int], at_once: int
    ) -> Iterator[tuple[int, list[int]]]:
        """The number of each prompt and the tokens written after it, in the order in which texts end.

        `at_once` texts are written together; where one has ended, the longest prompt that waits takes its place.
        """
        waiting = deque(sorted(range(len(prompts)), key=lambda n: len(prompts[n]), reverse=True))
        places = min(at_once, len(prompts))
        state = self._room(places, max(map(len, prompts), default=0) + max_new_tokens)
        free, numbers = list(range(places)), [0] * places
        written: dict[int, list[int]] = {}
        while waiting or len(state.slots):
            while waiting and free:
                count = min(READ, len(free), len(waiting))
                chosen, slots = [waiting.popleft() for _ in range(count)], [free.pop() for _ in range(count)]
                for slot, number in zip(slots, chosen, strict=True):
                    numbers[slot], written[slot] = number, []
                ids = [token for number in chosen for token in prompts[number]]
                self._read(state, self._ids(ids), [len(prompts[number]) for number in chosen], slots)
            going = []
            for n, (slot, token) in enumerate(zip(state.slots.tolist(), state.token.tolist(), strict=True)):
                text = written[slot]
                text.append(token)
                if token in ends or len(text) == max_new_tokens:
                    free.append(slot)
                    yield numbers[slot], written.pop(slot)
                else:
                    going.append(n)
            if len(going) < len(state.slots):
                kept = self._ids(going)
                state.token, state.lengths, state.slots = state.token[kept], state.lengths[kept], state.slots[kept]
            if going:
                self.step(state, 0)

    @torch.no_grad()
    def begin(self, input_ids: Tensor, lengths: Sequence[int], max_new_tokens: int) -> Search:
        """Read prompts (B, S), padded on the right, of so many tokens. Their first tokens are written."""
        state = self._room(len(lengths), max(lengths) + max_new_tokens)
        for start in range(0, len(lengths), READ):
            own = lengths[start : start + READ]
            ids = torch.cat([input_ids[start + n, :length] for n, length in enumerate(own)])
            self._read(state, ids, own, list(range(start, start + len(own))))
        return state

    @torch.no_grad()
    def step(self, state: Search, step: int) -> Tensor:
        """The next token (B) of every text. A text's own length tells where it is; `step` does not matter."""
        count = len(state.token)
        packing = replace(
            state.packing, positions=state.lengths, places=torch.arange(count, device=self._device), rows=count, width=1
        )
        x, seen = self._engine.embed(state.token), state.lengths + 1
        for layer, (keys, values) in zip(self._layers, state.cache, strict=True):
            q, k, v = layer.keys(x, packing)
            keys[state.slots, :, state.lengths], values[state.slots, :, state.lengths] = k, v
            rows = (q * layer.scaling).view(count, 1, -1)
            y = attend(rows, keys, values, seen, slots=state.slots, window=layer.window, cap=layer.cap)
            x = layer.feed_forward(layer.attended(x, y.view(count, -1)))
        state.lengths, state.token = seen, self._next(x)
        return state.token

    def _read(self, state: Search, ids: Tensor, lengths: Sequence[int], slots: Sequence[int]) -> None:
        """Read prompts (N), one after another, into places of the cache, and write the first token of each."""
        engine, width = self._engine, max(lengths)
        row = self._ids([n for n, length in enumerate(lengths) for _ in range(length)])
        positions = self._ids([n for length in lengths for n in range(length)])
        packing = replace(
            state.packing, positions=positions, places=row * width + positions, rows=len(lengths), width=width
        )
        own = self._ids(slots)
        slot_of_token = own[row]
        x = engine.embed(ids)
        for layer, (keys, values) in zip(self._layers, state.cache, strict=True):
            q, k, v = layer.keys(x, packing)
            for cache, new in ((keys, k), (values, v)):
                cache[slot_of_token, :, positions] = new.index_select(0, packing.places)
            x = layer.feed_forward(layer.attended(x, layer.attend(q, k, v, packing)))
        last = self._ids(lengths).cumsum(0) - 1
        state.token = torch.cat([state.token, self._next(x.index_select(0, last))])
        state.lengths = torch.cat([state.lengths, self._ids(lengths)])
        state.slots = torch.cat([state.slots, own])

    def _room(self, places: int, longest: int) -> Search:
        """Room for so many texts of at most so many tokens, none of them there yet."""
        nothing, first = self._ids([]), self._layers[0]
        shape = (len(self._layers), 2, places, first.heads // first.shared, longest, first.width)
        cache = torch.empty(shape, dtype=self._dtype, device=self._device)
        if not is_native(cache):
            cache.zero_()  # torch's own attention multiplies what is not there by 0
        packing = self._engine.packing(nothing, nothing, 0, 0, longest)
        return Search(nothing, nothing, nothing, cache, packing)

    def _next(self, x: Tensor) -> Tensor:
        return self._engine.logits(x).max(-1).indices  # as argmax, and quicker in bf16

    def _ids(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
