"""Facts of a service dialogue as sentences: what was asked for, in which order, and whether it worked."""

from __future__ import annotations

import random
import re
from pathlib import Path

import yaml

PATTERNS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
CLAUSE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{([a-z_|]+)\}")
FAILED = re.compile(r"couldn't|could not|unable to|wasn't able|not available|unavailable|did not go through", re.I)
WITHOUT_ON = re.compile(r"^(today|tomorrow|day after|next|this|later)", re.I)

FIRST = [
    "#Person1# wants to {}.",
    "#Person1# asks #Person2# to help {}.",
    "#Person2# helps #Person1# {}.",
    "#Person1# would like to {}.",
]
NEXT = [
    "Then #Person1# wants to {}.",
    "#Person1# also wants to {}.",
    "After that they try to {}.",
    "#Person2# then helps #Person1# {}.",
]
FAILURE = ["#Person2# cannot do it at first.", "The first attempt fails.", "Something turns out not to be possible."]
SUCCESS = ["#Person2# takes care of it.", "#Person2# arranges everything.", "It is settled."]


def state_facts(facts: dict[str, dict[str, str]], units: list[str], rng: random.Random) -> str | None:
    """One to four sentences on a dialogue of turns `units`; None where no pattern fits its facts."""
    phrases = [phrase for intent, slots in facts.items() if (phrase := _phrase(intent, slots, rng)) is not None]
    if not phrases:
        return None
    sentences = [rng.choice(FIRST).format(phrases[0])]
    sentences += [rng.choice(NEXT).format(phrase) for phrase in phrases[1:3]]
    answers = " ".join(unit for unit in units if unit.startswith("#Person2#"))
    sentences.append(rng.choice(FAILURE if FAILED.search(answers) else SUCCESS))
    return " ".join(sentences)


def _phrase(intent: str, slots: dict[str, str], rng: random.Random) -> str | None:
    patterns = list(PATTERNS.get(intent, []))
    rng.shuffle(patterns)
    for pattern in patterns:
        text = CLAUSE.sub(lambda clause: _filled(clause[1], slots) or "", pattern)
        phrase = _filled(text, slots)
        if phrase is not None:
            return phrase
    return None


def _filled(text: str, slots: dict[str, str]) -> str | None:
    """`text` with its slots' values, or None where one is missing."""
    for names in SLOT.findall(text):
        value = next((slots[n] for n in names.split("|") if slots.get(n, "dontcare") not in ("dontcare", "None")), None)
        if value is None:
            return None
        if names.split("|")[0].endswith(("date", "date_of_journey")) and not WITHOUT_ON.match(value):
            value = f"on {value}"
        text = text.replace(f"{{{names}}}", value)
    return text.replace("from on ", "from ").replace("to on ", "to ").replace("for on ", "for ")
