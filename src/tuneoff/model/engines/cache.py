"""The KV cache of a search: keys and values of the texts that it is writing, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tuneoff.model.kernels.operations import is_native


class Cache:
    """Room for the keys and values of some prompts, with the same number of beams for each.

    A text is held in one place of the cache. The C++ kernels read any places in any order, so that a text stays where
    it is. PyTorch's operations would copy the keys and values of places in any order at every step of every layer.
    Without the kernels the cache is therefore packed: text n is in place n, and texts are moved when others end.

    Attributes:
        block: Keys and values: (layers, 2, places, heads, tokens, head width).
        packed: Whether text n is always in place n.
        places: The place of each text that is being written.
        prompts: The number of each text's prompt. The lowest number that no text has goes to the next new prompt.
        slots: The places as a tensor: (B).
    """

    def __init__(
        self, layers: int, prompts: int, beams: int, heads: int, longest: int, width: int, like: Tensor
    ) -> None:
        self.block = like.new_empty(layers, 2, prompts * beams, heads, longest, width)
        self.packed = not is_native(self.block)
        if self.packed:
            self.block.zero_()  # PyTorch's attention multiplies keys and values of tokens that are not there by 0
        self.places: list[int] = []
        self.prompts: list[int] = []
        self.slots = self._ids([])
        self._room, self._beams = prompts, beams

    @property
    def layers(self) -> Tensor:
        """Keys and values for attention, by layer. A packed cache gives the places of its texts and no others."""
        return self.block[:, :, : len(self.places)] if self.packed else self.block

    @property
    def scattered(self) -> Tensor | None:
        """The places of the texts for attention, (B); None where text n is in place n."""
        return None if self.packed else self.slots

    def put(self, count: int) -> Tensor:
        """Add the first text of each of `count` new prompts after the texts that are there. Returns their places."""
        used = set(self.prompts)
        prompts = [number for number in range(self._room) if number not in used][:count]
        there = len(self.places)
        places = list(range(there, there + count)) if self.packed else [number * self._beams for number in prompts]
        self.places += places
        self.prompts += prompts
        self.slots = self._ids(self.places)
        return self.slots[there:]

    def branch(self, rows: Sequence[int], first: int, last: int) -> None:
        """Let text n continue what text `rows[n]` was. Texts that are not named are dropped.

        Tokens from `first` up to `last` are copied, one layer at a time. The tokens before `first` are the same in all
        texts of a prompt.
        """
        prompts = [self.prompts[row] for row in rows]
        if self.packed:
            places = list(range(len(rows)))
            copies = [(row, n) for n, row in enumerate(rows) if row != n]
            if any(target >= len(self.prompts) or self.prompts[target] != prompts[target] for _, target in copies):
                first = 0  # a text moves to a place where one of another prompt was, or none
        else:
            places, copies = self._placed(rows)
        if copies:
            source, target = map(self._ids, zip(*copies, strict=True))
            for layer in self.block:
                layer[:, target, :, first:last] = layer[:, source, :, first:last]
        self.places, self.prompts, self.slots = places, prompts, self._ids(places)

    def places_of(self, prompts: Sequence[int]) -> Tensor | None:
        """For attention of several texts to the one text that this cache holds of each prompt: its place, by text, (B).

        None where the cache is packed and the texts of each prompt are equally many and in the order of the places.
        """
        row_of = {prompt: row for row, prompt in enumerate(self.prompts)}
        rows = [row_of[prompt] for prompt in prompts]
        each = len(rows) // len(self.places)
        if self.packed and rows == [row for row in range(len(self.places)) for _ in range(each)]:
            return None
        return self._ids([self.places[row] for row in rows])

    def _placed(self, rows: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """The places of the texts that continue texts `rows`, and the pairs of places between which tokens are copied.

        The first text that continues another one takes its place. The others get free places of the same prompt.
        """
        kept = {self.places[row] for row in rows}
        free: dict[int, list[int]] = {}  # by prompt
        for prompt in {self.prompts[row] for row in rows}:
            every = range(prompt * self._beams, (prompt + 1) * self._beams)
            free[prompt] = [place for place in every if place not in kept]
        places, copies = list[int](), list[tuple[int, int]]()
        used: set[int] = set()
        for row in rows:
            place = self.places[row]
            if place in used:
                copies.append((place, free[self.prompts[row]].pop()))
                place = copies[-1][1]
            used.add(place)
            places.append(place)
        return places, copies

    def _ids(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.block.device)
