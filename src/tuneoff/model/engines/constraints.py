"""What a search may not write next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Constraints:
    """Tokens that end a text, not before `min_new_tokens` are written; and no `no_repeat_ngram_size` tokens twice.

    As transformers' settings of these names; 0 stands for no constraint. The tokens of a decoder-only model's prompt
    count among those that are not repeated.
    """

    ends: tuple[int, ...]
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0

    def __bool__(self) -> bool:
        return self.min_new_tokens > 0 or self.no_repeat_ngram_size > 0

    def apply(self, scores: Tensor, texts: Sequence[Sequence[int]], written: Sequence[int]) -> Tensor:
        """`scores` (B, V) in fp32 with -inf for what may not come next, in place.

        `texts` are all tokens so far that a model goes on with, and `written` how many of each are new.
        """
        for row, (text, new) in enumerate(zip(texts, written, strict=True)):
            forbidden = set(self.ends) if new < self.min_new_tokens else set()
            forbidden |= self._repeating(text)
            ids = [token for token in forbidden if 0 <= token < scores.shape[1]]
            if ids:
                scores[row, ids] = float("-inf")
        return scores

    def _repeating(self, text: Sequence[int]) -> set[int]:
        """The tokens that would end an n-gram of `text` once more."""
        before = self.no_repeat_ngram_size - 1
        if before < 0:
            return set()
        if before == 0:
            return set(text)
        tail = list(text[-before:])
        last = tail[-1]
        return {
            text[n + 1]
            for n in range(before - 1, len(text) - 1)
            if text[n] == last and list(text[n + 1 - before : n + 1]) == tail
        }
