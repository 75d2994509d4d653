"""Phrases of the corpus: what is done, and what is so, in words that fit whoever speaks."""

from __future__ import annotations

import random

from affairs import KEYS
from corpus import Document
from phrases import find_phrases

UNITS = [
    "#Person1#: I want to paint the old boat before winter. My brother said that the harbour was closed.",
    "#Person2#: You should not lend it. We will carry the long ladder to the shed, because it has lost two rungs!",
    "She could hardly believe him, for he gave me the key.",
    "The bell rang twice at noon. They would be there.",
]


def test_actions_and_states() -> None:
    found = find_phrases([Document("test", UNITS)])
    assert found.actions == ["paint the old boat before winter", "carry the long ladder to the shed"]
    assert found.states == ["the harbour was closed", "it has lost two rungs", "she could hardly believe him"]


def test_an_affair_has_a_phrase_for_every_key_and_none_twice() -> None:
    actions = [f"paint boat number {n}" for n in range(4)]
    states = [f"boat {n} was sold" for n in range(6)]
    found = find_phrases(
        [Document("test", [f"I want to {a}." for a in actions] + [f"I know that the {s}." for s in states])]
    )
    affair = found.affair(random.Random(0))
    assert set(KEYS) <= set(affair)
    assert affair["question"] == f"whether {affair['answer']}"
    assert len({affair[key] for key in KEYS}) == len(KEYS)
