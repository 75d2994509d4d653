"""Keys and values of the texts that a search is writing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tuneoff.model.kernels.operations import is_native


class Cache:
    """One block with a place for every text, or for every beam of a text, whose places lie side by side.

    Attributes:
        block: Keys and values: (layers, 2, places, heads, tokens, head width).
        places: The places of the texts being written.
        slots: The same as a tensor: (B).
        beams: The places that belong to one prompt.
    """

    def __init__(
        self, layers: int, prompts: int, beams: int, heads: int, longest: int, width: int, like: Tensor
    ) -> None:
        self.block = like.new_empty(layers, 2, prompts * beams, heads, longest, width)
        if not is_native(self.block):
            self.block.zero_()  # torch's own attention multiplies what is not there by 0
        self.places: list[int] = []
        self.slots = self._ids([])
        self.beams = beams

    def put(self, places: Sequence[int]) -> Tensor:
        """More texts, after those that are there, in these places, which are returned as a tensor."""
        new = self._ids(places)
        self.places += places
        self.slots = torch.cat([self.slots, new])
        return new

    def branch(self, rows: Sequence[int], first: int, last: int) -> None:
        """Text n goes on from what text `rows[n]` was; texts that are not named are let go.

        Where several go on from one, the others get a copy of its tokens `first` to `last`, in places of the same
        prompt: what comes before `first` is the same in all of these.
        """
        own = self.places
        kept = {own[row] for row in rows}
        free: dict[int, list[int]] = {}  # by prompt
        for prompt in {place // self.beams for place in kept}:
            every = range(prompt * self.beams, (prompt + 1) * self.beams)
            free[prompt] = [place for place in every if place not in kept]
        used: set[int] = set()
        places, copies = [], []
        for row in rows:
            place = own[row]
            if place in used:
                copies.append((place, free[place // self.beams].pop()))
                places.append(copies[-1][1])
            else:
                used.add(place)
                places.append(place)
        if copies:
            source, target = map(self._ids, zip(*copies, strict=True))
            self.block[:, :, target, :, first:last] = self.block[:, :, source, :, first:last]
        self.places, self.slots = places, self._ids(places)

    def _ids(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.block.device)
