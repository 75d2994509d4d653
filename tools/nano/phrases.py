"""Phrases of the corpus from which affairs that nobody wrote are put together: what is done, and what is so.

What an affair of such phrases says is nonsense, but every word of its gist stands in its dialogue, and no two are the
same: it can be told only by reading, where one of a few hundred written affairs can be known by heart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from corpus import Document

WORDS = range(3, 10)  # of a phrase
MODAL = r"will|can|could|would|should|must|might|may|cannot|can't|won't|couldn't|didn't"
ACTION = re.compile(
    rf"\b(?:{MODAL}|(?:want|need|like|going|have|had|try|trying|wish|hope|able|ready|decided|began|managed|ought"
    r"|help|way|time|chance) to) ([a-z][a-z']+ [^.,;:!?—“”()\"]+)"
)
STATE = re.compile(
    r"(?:\b(?:because|that|since|if|when|while|though|for|and|but|so) |^)"
    r"((?:the|an?|this|no|every|some|his|her|he|she|it|they|there|nobody|somebody|everything) [^.,;:!?—“”()\"]+)",
    re.I,
)
FINITE = re.compile(
    r"\b(?:is|was|are|were|has|had|have|will|would|can|could|must|may|does|did|doesn't|isn't|wasn't|\w{2,}ed"
    r"|came|went|took|got|made|knew|saw|said|gave|found|costs?|needs?|opens?|closes?|starts?|leaves?|comes?|goes)\b"
)
# Whoever is meant by these changes with the speaker, or the phrase goes on beyond its end.
UNFIT = re.compile(
    r"\b(?:i|me|my|mine|we|us|our|you|your|myself|yourself|i'\w+|you'\w+|we'\w+|be|have|not|been)\b", re.I
)
OPEN_END = re.compile(
    r"\b(?:the|an?|of|to|and|or|but|in|on|at|with|for|from|by|that|as|if|his|her|their|its|than|so)$", re.I
)
NO_VERB = re.compile(
    r"(?:not|never|like|also|still|only|always|\w+ly|he|she|it|they|we|this|that|is|are)\b|\w+ (?:is|are|was|were)\b"
)


@dataclass(frozen=True)
class Phrases:
    """`actions` follow "to"; `states` follow "that"."""

    actions: list[str]
    states: list[str]

    def affair(self, rng: random.Random) -> dict[str, str]:
        """A phrase for each key of an affair."""
        actions = iter(rng.sample(self.actions, 4))
        states = iter(rng.sample(self.states, 6))
        phrases = {key: next(actions) for key in ("want", "offer", "other", "promise")}
        phrases |= {key: next(states) for key in ("reason", "obstacle", "worry", "solve", "answer")}
        return {**phrases, "question": f"whether {phrases['answer']}"}


def find_phrases(documents: Iterable[Document]) -> Phrases:
    """Every phrase once, in the order of the documents."""
    actions: dict[str, None] = {}
    states: dict[str, None] = {}
    for document in documents:
        for unit in document.units:
            for sentence in re.split(r"(?<=[.!?])\s+", re.sub(r"^#Person[12]#: ", "", unit.replace("’", "'"))):
                actions.update((text, None) for text in _fit(ACTION.findall(sentence)) if not NO_VERB.match(text))
                states.update((_lower(text), None) for text in _fit(STATE.findall(sentence)) if FINITE.search(text))
    return Phrases(list(actions), list(states))


def _fit(texts: Iterable[str]) -> Iterable[str]:
    for text in map(str.strip, texts):
        if len(text.split()) in WORDS and not UNFIT.search(text) and not OPEN_END.search(text):
            yield text


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
