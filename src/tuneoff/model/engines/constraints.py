"""The tokens that a search may not write next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Constraints:
    """The constraints of a search, which mean what transformers' settings of the same names mean.

    Attributes:
        ends: The tokens that end a text.
        min_new_tokens: A text does not end before so many tokens are written; 0 sets no minimum.
        no_repeat_ngram_size: No n-gram of so many tokens occurs twice in a text, of which the prompt of a decoder-only
            model is a part; 0 allows repetition.
    """

    ends: tuple[int, ...]
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0

    def __bool__(self) -> bool:
        """Whether any token may be forbidden."""
        return self.min_new_tokens > 0 or self.no_repeat_ngram_size > 0

    def apply(self, scores: Tensor, texts: Sequence[Sequence[int]], written: Sequence[int]) -> Tensor:
        """Set `scores` (B, V) in fp32 to -inf for each token that may not come next, in place. Returns `scores`.

        `texts` hold all tokens that the model continues, and `written` the number of new tokens in each.
        """
        for row, (text, new) in enumerate(zip(texts, written, strict=True)):
            forbidden = set(self.ends) if new < self.min_new_tokens else set()
            forbidden |= self._repeating(text)
            ids = [token for token in forbidden if 0 <= token < scores.shape[1]]
            if ids:
                scores[row, ids] = float("-inf")
        return scores

    def _repeating(self, text: Sequence[int]) -> set[int]:
        """The tokens that would complete an n-gram which `text` has already."""
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
