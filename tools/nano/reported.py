"""Sentences of a dialogue in reported speech, by rule: "Could you call?" -> "#Person1# asks #Person2# to call."

Only sentences of a few common forms are rewritten, and only where the pronouns in them can be: what is left
out is no loss, what is written should be right.
"""

from __future__ import annotations

import re
from itertools import pairwise

MOST = 3  # sentences in a report
LONGEST = 20  # words of a sentence worth reporting
TURN = re.compile(r"#Person([12])#: (.+)", re.S)
SENTENCE = re.compile(r"(?<=[.!?])\s+")
OPENER = re.compile(
    r"^(?:(?:well|so|yes|yeah|no|ok|okay|sure|hi|hello|hey|great|thanks|thank you|oh|and|but|also|alright|right|then"
    r"|actually|now|please|perfect|good|sorry|hm|you know)\b[,.!]*\s+)+",
    re.I,
)
THIRD = {"have": "has", "do": "does", "don't": "doesn't", "am": "is", "are": "is", "go": "goes", "wish": "wishes"}

# What is said -> how it is reported; `{a}` speaks to `{b}`, and `\1` is put in the third person.
FORMS: list[tuple[str, str]] = [
    (r"(?:would you like|do you want) me to (.+)\?", r"{a} offers to \1"),
    (r"would you like to (.+)\?", r"{a} asks whether {b} would like to \1"),
    (r"would you like (.+)\?", r"{a} asks whether {b} would like \1"),
    (r"(?:can|could|would|will) you (?:please |maybe |just )?(.+)\?", r"{a} asks {b} to \1"),
    (r"do you (have|want|need|know|like|prefer|think|sell|offer) (.+)\?", r"{a} asks whether {b} <\1> \2"),
    (r"(?:shall|should|may|can|could) i (.+)\?", r"{a} asks whether to \1"),
    (r"(?:how|what) about (.+)\?", r"{a} suggests \1"),
    (r"let's (.+)", r"{a} suggests to \1"),
    (r"let me (.+)", r"{a} is going to \1"),
    (r"is there (.+)\?", r"{a} asks whether there is \1"),
    (r"are there (.+)\?", r"{a} asks whether there are \1"),
    (r"i(?:'d| would) (like|love|prefer|rather) (.+)", r"{a} would \1 \2"),
    (r"i(?:'m| am) (.+)", r"{a} is \1"),
    (r"i(?:'ll| will) (.+)", r"{a} will \1"),
    (r"i(?:'ve| have) (\w+(?:ed|en|ound|ot|ade|ought|ost|eft|een)) (.+)", r"{a} has \1 \2"),
    (r"i (can|can't|cannot|could|couldn't|should|must|might|didn't|wouldn't|won't|had|was) (.+)", r"{a} \1 \2"),
    (r"i (found|made|got|lost|bought|left|came|went|thought|(?!need)\w+ed) (.+)", r"{a} \1 \2"),
    (r"i (want|need|have|like|love|hope|think|prefer|don't|wish|know|feel|live|work) (.+)", r"{a} <\1> \2"),
    (r"you (can|could|should|must|may|might|will|can't|won't) (.+)", r"{a} tells {b} that {b} \1 \2"),
    (r"you(?:'ll| will) (.+)", r"{a} tells {b} that {b} will \1"),
    (r"you (need|have) to (.+)", r"{a} tells {b} to \2"),
    (r"there(?:'s| is) (.+)", r"{a} says that there is \1"),
    (r"there are (.+)", r"{a} says that there are \1"),
    (r"it(?:'s| is) (.+)", r"{a} says that it is \1"),
    (r"(the|your|that) (.+ (?:is|was|has|will|costs|leaves|starts|opens|closes) .+)", r"{a} says that \1 \2"),
]
COMPILED = [(re.compile(pattern, re.I), form) for pattern, form in FORMS]

# Pronouns in what is left, in this order; one that remains makes the sentence unfit.
PRONOUNS: list[tuple[str, str]] = [
    (r"\bi(?:'m| am)\b", "{a} is"),
    (r"\bi(?:'ve| have)\b", "{a} has"),
    (r"\bi'(ll|d)\b", r"{a} <'\1>"),
    (r"\byou(?:'re| are)\b", "{b} is"),
    (r"\byou(?:'ve| have)\b", "{b} has"),
    (r"\byou'(ll|d)\b", r"{b} <'\1>"),
    (r"\bi (can|can't|could|will|would|should|must|had|was|did|(?!need)\w+ed)\b", r"{a} \1"),
    (r"\byou (can|can't|could|will|would|should|must|had|did|(?!need)\w+ed)\b", r"{b} \1"),
    (r"\bi (want|need|like|have|think|know|do|don't|go|get)\b", r"{a} <\1>"),
    (r"\byou (want|need|like|have|think|know|do|don't|go|get)\b", r"{b} <\1>"),
    (r"\b(?:my|mine)\b", "{a}'s"),
    (r"\b(?:your|yours)\b", "{b}'s"),
    (r"\b(?:me|myself)\b", "{a}"),
    (r"\b(?:you|yourself)\b", "{b}"),
    (r"\b(?:us|ourselves)\b", "them"),
    (r"\bour\b", "their"),
    (r"\bwe(?:'re| are)\b", "they are"),
    (r"\bwe(?:'ll| will)\b", "they will"),
    (r"\bwe\b", "they"),
]
REWRITES = [(re.compile(pattern, re.I), form) for pattern, form in PRONOUNS]
LEFT = re.compile(r"\b(?:i|am)\b|\?", re.I)


def report(units: list[str]) -> str | None:
    """What is said in the turns `units`: the first sentence found, the longest, the last; None where there is none."""
    found: list[str] = []
    for unit in units:
        turn = TURN.fullmatch(unit)
        for sentence in SENTENCE.split(turn[2]) if turn else ():
            said = reported(sentence, int(turn[1]))  # type: ignore[index]
            if said is not None and said not in found:
                found.append(said)
    if len(found) > MOST:
        middle = max(range(1, len(found) - 1), key=lambda n: len(found[n]))
        found = [found[0], found[middle], found[-1]]
    return " ".join(_without_repeated_subjects(found)) or None


def reported(sentence: str, speaker: int) -> str | None:
    """What #PersonN# says, told by another; None where no form fits."""
    text = OPENER.sub("", sentence.strip().replace("’", "'"))
    if not 4 <= len(text.split()) <= LONGEST:
        return None
    for pattern, form in COMPILED:
        match = pattern.fullmatch(text.rstrip(".!"))
        if match:
            told = match.expand(form).replace("that The ", "that the ").replace("that Your ", "that your ")
            for pronoun, by in REWRITES:
                head, _, rest = told.partition("} ")
                told = f"{head}}} {pronoun.sub(by, rest)}"
            if LEFT.search(told):
                return None
            told = re.sub(r"<([^>]+)>", lambda verb: _third(verb[1].lower()), told)
            return told.format_map({"a": f"#Person{speaker}#", "b": f"#Person{3 - speaker}#"}).rstrip(",;: ") + "."
    return None


def _third(verb: str) -> str:
    if verb.startswith("'"):
        return {"'ll": "will", "'d": "would"}[verb]
    return THIRD.get(verb, f"{verb}s")


def _without_repeated_subjects(sentences: list[str]) -> list[str]:
    """Two neighbouring sentences on one person become one, with "and"."""
    if len(sentences) < 2:
        return sentences
    joined = [sentences[0]]
    for before, after in pairwise(sentences):
        subject = before.split(" ", 1)[0]
        if after.startswith(subject) and " and " not in joined[-1]:
            joined[-1] = f"{joined[-1][:-1]} and {after.removeprefix(subject).strip()}"
        else:
            joined.append(after)
    return joined
