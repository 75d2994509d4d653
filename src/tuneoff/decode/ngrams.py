"""The constraint `no_repeat_ngram_size` for transformers' own search in padded batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tuneoff.model.engines.constraints import Constraints


class UnpaddedNGrams:
    """A logits processor that forbids repeated n-grams of each text without the padding before its prompt.

    transformers' own processor takes padding for tokens of the text, so that what a text may say depends on the longest
    prompt of its batch.
    """

    def __init__(self, size: int, padding: Sequence[int]) -> None:
        """`padding` holds the number of padding tokens before each prompt. A prompt's beams lie side by side."""
        self._constraints = Constraints((), no_repeat_ngram_size=size)
        self._padding = padding

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """A copy of `scores` (texts, V) with -inf for each token that would repeat an n-gram of `input_ids`."""
        beams = len(input_ids) // len(self._padding)
        texts = [ids[self._padding[row // beams] :] for row, ids in enumerate(input_ids.tolist())]
        return self._constraints.apply(scores.clone(), texts, [len(text) for text in texts])
