"""Words of texts in any language, for metrics that count words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import regex

# Scripts that are written without spaces between words: each letter, with its marks, counts as a word.
_UNSPACED = "".join(
    rf"\p{{{script}}}" for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")
_LETTER = regex.compile(rf"[{_UNSPACED}]")
FEW = 0.005  # the share of letters beyond ASCII up to which a text is taken to be of an ASCII language


def words(text: str) -> list[str]:
    """The words of `text`, case folded: runs of letters, marks and digits; single letters in scripts without spaces."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether most words of `texts` are letters of scripts without spaces."""
    found = [word for text in texts for word in words(text)]
    return 2 * sum(_LETTER.match(word) is not None for word in found) > len(found)


def is_ascii_language(texts: Iterable[str]) -> bool:
    """Whether hardly any letter of `texts` is beyond ASCII, as in English with a foreign name here and there."""
    letters = beyond = 0
    for text in texts:
        own = [c for c in text if c.isalpha()]
        letters += len(own)
        beyond += sum(not c.isascii() for c in own)
    return beyond <= FEW * letters
