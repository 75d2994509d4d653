"""Text search with a decoder-only model. Prompts are read without padding. When a text has ended, the next prompt takes
its place in the KV cache.

Shapes: B texts being written at once, L layers, G heads of keys and values, K head width, T the longest text, V tokens
of the vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tuneoff.model.engines.cache import Cache
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.decoder_layers import Packing
from tuneoff.model.kernels.operations import attend

if TYPE_CHECKING:
    from tuneoff.model.engines.decoder import DecoderEngine

READ = 8  # prompts read together: enough for large matrix products, with few activations


@dataclass
class Texts:
    """The texts that a search is writing.

    Attributes:
        token: The last token of each: (B).
        lengths: The number of tokens of each that are in the cache, which are all before the last one: (B).
        cache: Keys and values of the texts: (L, 2, places, G, T, K).
        packing: The angles of rotary embedding for all positions.
        shortest: The number of tokens of the shortest prompt.
        longest: No text has more tokens in the cache.
        common: All beams of a prompt have their first tokens in common, at least so many.
    """

    token: Tensor
    lengths: Tensor
    cache: Cache
    packing: Packing
    shortest: int = 0
    longest: int = 0
    common: int = 0


class DecoderSearch:
    """Searches for texts with a decoder-only model that has no adapters: they are merged before.

    In fp32 the texts are token for token those of transformers' `generate`.
    """

    batches: ClassVar[int] = 4

    def __init__(self, engine: DecoderEngine) -> None:
        self._engine, self._layers = engine, engine.layers
        self._weight = engine.base.lm_head.weight.detach()
        self._device = self._weight.device

    @torch.no_grad()
    def write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, constraints: Constraints, at_once: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Write greedily, `at_once` texts together. When a text ends, the longest prompt that is left takes its place.

        Yields the number of each prompt and the tokens written after it, in the order in which texts end.
        """
        waiting = deque(sorted(range(len(prompts)), key=lambda n: len(prompts[n]), reverse=True))
        count = min(at_once, len(prompts))
        texts = self._room(count, 1, max(map(len, prompts), default=0) + max_new_tokens)
        numbers: list[int] = []  # the prompts of the texts that have not ended
        written: list[list[int]] = [[] for _ in prompts]

        def choose(logits: Tensor, of: Sequence[int]) -> Tensor:
            if constraints:
                so_far = [[*prompts[n], *written[n]] for n in of]
                logits = constraints.apply(logits.float(), so_far, [len(written[n]) for n in of])
            token = logits.max(-1).indices  # as argmax, and quicker in bf16
            for number, one in zip(of, token.tolist(), strict=True):
                written[number].append(one)
            return token

        while waiting or numbers:
            while waiting and len(numbers) < count:
                chosen = [waiting.popleft() for _ in range(min(READ, count - len(numbers), len(waiting)))]
                ids = [token for number in chosen for token in prompts[number]]
                logits = self._read(texts, self._ids(ids), [len(prompts[number]) for number in chosen])
                texts.token = torch.cat([texts.token, choose(logits, chosen)])
                numbers += chosen
            going = []
            for n, number in enumerate(numbers):
                if written[number][-1] in constraints.ends or len(written[number]) == max_new_tokens:
                    yield number, written[number]
                else:
                    going.append(n)
            if len(going) < len(numbers):
                numbers = [numbers[n] for n in going]
                self.branch(texts, going, [written[number][-1] for number in numbers])
            if numbers:
                texts.token = choose(self.step(texts, 0), numbers)

    @torch.no_grad()
    def begin(
        self, input_ids: Tensor, lengths: Sequence[int], max_new_tokens: int, beams: int = 1
    ) -> tuple[Texts, Tensor]:
        """Read each prompt once, a few together, and allocate the cache for `beams` texts of each.

        `input_ids` (P, S) are padded on the right, and `lengths` are the numbers of their real tokens. Returns the
        texts, of which there is one for each prompt, and the logits of their first tokens: (P, V).
        """
        texts = self._room(len(lengths), beams, max(lengths) + max_new_tokens)
        logits = []
        for start in range(0, len(lengths), READ):
            own = lengths[start : start + READ]
            ids = torch.cat([input_ids[start + n, :length] for n, length in enumerate(own)])
            logits.append(self._read(texts, ids, own))
        texts.token = texts.lengths.new_zeros(len(lengths))
        texts.shortest = min(lengths)
        return texts, torch.cat(logits)

    @torch.no_grad()
    def step(self, texts: Texts, step: int) -> Tensor:
        """The logits after the last token of every text: (B, V). Positions follow from the texts' lengths."""
        count, slots = len(texts.token), texts.cache.slots
        packing = replace(
            texts.packing, positions=texts.lengths, places=torch.arange(count, device=self._device), rows=count, width=1
        )
        x, seen = self._engine.embed(texts.token), texts.lengths + 1
        for layer, (keys, values) in zip(self._layers, texts.cache.layers, strict=True):
            q, k, v = layer.keys(x, packing)
            keys[slots, :, texts.lengths], values[slots, :, texts.lengths] = k, v
            rows = (q * layer.scaling).view(count, 1, -1)
            y = attend(rows, keys, values, seen, slots=texts.cache.scattered, window=layer.window, cap=layer.cap)
            x = layer.feed_forward(layer.attended(x, y.view(count, -1)))
        texts.lengths, texts.longest = seen, texts.longest + 1
        return self._engine.logits(x)

    def branch(self, texts: Texts, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Let text n continue what text `rows[n]` was with `tokens[n]`. Texts that are not named are dropped."""
        texts.cache.branch(rows, texts.common, texts.longest)
        texts.common = texts.shortest
        texts.lengths, texts.token = texts.lengths[self._ids(rows)], self._ids(tokens)

    def _read(self, texts: Texts, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Read new prompts into the cache: their tokens (N), one prompt after another, and how many tokens each has.

        Returns the logits of the first token of each text.
        """
        engine, width = self._engine, max(lengths)
        row = self._ids([n for n, length in enumerate(lengths) for _ in range(length)])
        positions = self._ids([n for length in lengths for n in range(length)])
        packing = replace(
            texts.packing, positions=positions, places=row * width + positions, rows=len(lengths), width=width
        )
        slot_of_token = texts.cache.put(len(lengths))[row]
        x = engine.embed(ids)
        for layer, (keys, values) in zip(self._layers, texts.cache.layers, strict=True):
            q, k, v = layer.keys(x, packing)
            for cache, new in ((keys, k), (values, v)):
                cache[slot_of_token, :, positions] = new.index_select(0, packing.places)
            x = layer.feed_forward(layer.attended(x, layer.attend(q, k, v, packing)))
        own = self._ids(lengths)
        texts.lengths, texts.longest = torch.cat([texts.lengths, own]), max(texts.longest, width)
        return engine.logits(x.index_select(0, own.cumsum(0) - 1))

    def _room(self, prompts: int, beams: int, longest: int) -> Texts:
        """Allocate the cache for `beams` texts of each of `prompts`, of at most `longest` tokens. It holds none yet."""
        nothing, first = self._ids([]), self._layers[0]
        groups = first.heads // first.shared
        cache = Cache(len(self._layers), prompts, beams, groups, longest, first.width, self._weight)
        return Texts(nothing, nothing, cache, self._engine.packing(nothing, nothing, 0, 0, longest))

    def _ids(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
