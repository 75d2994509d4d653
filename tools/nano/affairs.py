"""Dialogues made of affairs and frames, each with what a summary of it would say; of no scene of `everyday`.

An affair is one everyday matter in phrases that stand unchanged in what is said and in what is told: one of those
written down (affairs/*.yaml), or phrases of the corpus put together at random. frames.yaml has the sentences around
them. How the talk goes, who has a worry, who changes their mind and what is settled are drawn, so that what to tell
cannot be read off the first turns.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from phrases import Phrases

HERE = Path(__file__).parent
SLOT = re.compile(r"\{(name|surname|time|day|date|month|price|small|number|city|street)\}")
KEYS = ("want", "reason", "obstacle", "offer", "other", "worry", "solve", "question", "answer", "promise")
ASKED = 0.4  # share of dialogues in which `b` is to do what `a` wants
ASIDES = 0.5  # share of dialogues in which something is said that is not told
FOUND = 0.6  # share of dialogues whose affair is made of phrases of the corpus
OWNED = 0.4  # share of phrases in which a "the" becomes whose it is: "my" and "your" in speech, a name in what is told
TOGETHER = {"worry": "offer", "solve": "offer", "answer": "question"}  # the second phrase of one goes with that of both


@dataclass(frozen=True)
class Way:
    """How a talk goes: (speaker, act) turns, how the first sentence told ends, and the sentences after it.

    `a` wants something of `b`; an act with a question mark is left out half of the time, with what is told of it.
    """

    turns: tuple[tuple[str, str], ...]
    ending: str
    told: tuple[str, ...]


ADVISED = (("b", "obstacle"), ("a", "sigh?"), ("b", "offer"))
WAYS = [
    Way((*ADVISED, ("a", "accept"), ("a", "promise?")), "told_obstacle", ("told_accepted", "told_promise?")),
    Way(
        (*ADVISED, ("a", "worry"), ("b", "solve"), ("a", "accept")),
        "told_obstacle",
        ("told_offer", "told_worry_solved"),
    ),
    Way((*ADVISED, ("a", "worry"), ("b", "other"), ("a", "accept")), "told_obstacle", ("told_offer", "told_other")),
    Way((*ADVISED, ("a", "worry"), ("b", "other"), ("a", "refuse")), "told_obstacle", ("told_offer", "told_refused")),
    Way((*ADVISED, ("a", "accept"), ("b", "end"), ("a", "own_other")), "told_obstacle", ("told_offer", "told_changed")),
    Way(
        (("b", "obstacle"), ("a", "own_offer"), ("b", "agree"), ("a", "promise?")),
        "told_obstacle",
        ("told_own", "told_promise?"),
    ),
    Way((("b", "agree"), ("b", "condition"), ("a", "content")), "told_condition", ()),
    Way((("b", "obstacle"), ("a", "sigh?"), ("b", "do"), ("a", "accept")), "told_obstacle", ("told_done",)),
    Way(
        (("b", "obstacle"), ("b", "do"), ("a", "worry"), ("a", "own_other")),
        "told_obstacle",
        ("told_not_done", "told_own_other"),
    ),
    Way((("b", "do"), ("a", "worry"), ("b", "solve"), ("a", "accept")), "told_end", ("told_done_after_all",)),
    Way(
        (("b", "obstacle"), ("a", "plead"), ("b", "give_in"), ("b", "condition"), ("a", "content")),
        "told_no",
        ("told_condition_after_all",),
    ),
    Way((("a", "both"), ("b", "accept"), ("a", "promise?")), "told_end", ("told_both", "told_promise?")),
    Way((("a", "both"), ("b", "worry"), ("a", "both_other"), ("b", "accept")), "told_end", ("told_both_other",)),
]


class Affairs:
    """Draws dialogues with their gist. Raises ValueError where an affair lacks a phrase."""

    def __init__(self, slots: dict[str, list[str]], found: Phrases) -> None:
        self._slots = slots
        self._found = found
        self.frames: dict[str, list[str]] = yaml.safe_load((HERE / "frames.yaml").read_text(encoding="utf-8"))
        self._affairs: list[dict[str, Any]] = []
        for path in sorted((HERE / "affairs").glob("*.yaml")):
            for affair in yaml.safe_load(path.read_text(encoding="utf-8")):
                if any(len(affair.get(key, ())) != 2 for key in KEYS):
                    raise ValueError(f"{path}: {affair.get('affair')}: not two phrases under each of {KEYS}")
                self._affairs.append(affair)

    def draw(self, rng: random.Random) -> tuple[list[str], str]:
        """The turns of a dialogue, tagged, and its gist in one to four sentences."""
        phrases = self._phrases(rng)
        way = rng.choice(WAYS)
        left_out = {act for act in ("sigh?", "promise?") if rng.random() < 0.5}
        phrases["aside"] = rng.choice(self._found.states)
        turns, told = self._beginning(rng)
        told[0] += rng.choice(self.frames[way.ending])
        turns += [(who, act) for who, act in way.turns if act not in left_out]
        told += [
            rng.choice(self.frames[act.rstrip("?")]) for act in way.told if act.removeprefix("told_") not in left_out
        ]
        if rng.random() < ASIDES:
            at = rng.randrange(1, len(turns))
            turns[at:at] = [(who := rng.choice("ab"), "aside"), ("ab"[who == "a"], "aside_heard")]
        if rng.random() < 0.4:
            turns.append(("b" if turns[-1][0] == "a" else "a", "end"))
        first = turns[0][0] if rng.random() < 0.8 else "ab"[turns[0][0] == "a"]
        tags = {first: "#Person1#", "ab"[first == "a"]: "#Person2#"}
        units = []
        for who, spoken in groupby(turns, key=lambda turn: turn[0]):
            texts = [rng.choice(self.frames[act.rstrip("?")]).format_map(phrases) for _, act in spoken]
            said = " ".join(texts).replace("{owner}", "my" if who == "a" else "your")
            units.append(f"{tags[who]}: {_capitals(said)}")
        gist = " ".join(told).format_map({**phrases, **tags}).replace("{owner}", f"{tags['a']}'s")
        return units, _capitals(gist)

    def _phrases(self, rng: random.Random) -> dict[str, str]:
        """One phrase of an affair for each of its keys, slots filled."""
        if rng.random() < FOUND:
            return self._found.affair(rng)
        affair = rng.choice(self._affairs)
        at = {key: rng.randrange(2) for key in KEYS}
        at |= {key: at[other] for key, other in TOGETHER.items()}
        values = {name: rng.choice(choices) for name, choices in self._slots.items()}
        phrases = {key: SLOT.sub(lambda slot: values[slot[1]], affair[key][at[key]]) for key in KEYS}
        return {
            key: re.sub(r"\bthe(?= [a-z])", "{owner}", text, count=1) if rng.random() < OWNED else text
            for key, text in phrases.items()
        }

    def _beginning(self, rng: random.Random) -> tuple[list[tuple[str, str]], list[str]]:
        """What is wanted, with or without its reason, and perhaps a question; the first sentence told is left open."""
        turns = [("b", "greet")] if rng.random() < 0.3 else []
        reason = rng.choice(["none", "at once", "when asked"])
        matter = "ask" if rng.random() < ASKED else "want"
        turns.append(("a", f"{matter}_reason" if reason == "at once" else matter))
        if reason == "when asked":
            turns += [("b", "why"), ("a", "reason")]
        why = "_reason" if reason != "none" and rng.random() < 0.7 else ""
        told = [rng.choice(self.frames[f"told_{matter}{why}"])]
        if rng.random() < 0.3:
            turns += [("a", "question"), ("b", "answer")]
            told.append(rng.choice(self.frames["told_question"]))
        return turns, told


def _capitals(text: str) -> str:
    """With a capital wherever a sentence begins."""
    return re.sub(r"(^|[.?!…] +)([a-z])", lambda match: match[1] + match[2].upper(), text)
