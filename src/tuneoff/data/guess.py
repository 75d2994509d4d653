"""Which columns of rows are inputs and targets, guessed from their names and from what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from tuneoff.data.conversations import find_layout, question_of
from tuneoff.errors import DataError

# Names that columns of public data sets have, in English and German; the first that is there is taken.
INPUTS = (
    "dialogue", "dialog", "article", "document", "ticket", "email", "question", "query", "instruction", "prompt",
    "request", "review", "source", "input", "message", "passage", "text", "content", "body", "description", "context",
    "frage", "anfrage", "eingabe", "nachricht",
)  # fmt: skip
TARGETS = (
    "summary", "target", "output", "answer", "response", "completion", "reply", "resolution", "solution",
    "translation", "label", "category", "intent", "sentiment", "class", "title", "headline", "highlights", "reference",
    "zusammenfassung", "antwort", "lösung", "ausgabe", "kategorie",
)  # fmt: skip
BESIDE = ("context", "passage")  # what a question is about: part of the prompt
FIGURES = re.compile(r"[\d\s.,:;/+%€$£()TZ-]*")  # numbers, dates, amounts
FORBIDDEN = re.compile(r"[:!{}]")  # in the name of a prompt's column


@dataclass(frozen=True)
class Columns:
    """What each row has.

    Attributes:
        layout: How rows hold conversations, for people; None where they are texts.
        input: The column of inputs, of texts.
        target: The column of targets.
        beside: A column that belongs to the prompt, before the input; None where there is none.
        why: How it was found, for people.
        others: The columns that are left aside.
    """

    layout: str | None = None
    input: str = ""
    target: str = ""
    beside: str | None = None
    why: str = ""
    others: tuple[str, ...] = ()


def guess_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """What rows like these have. Raises DataError where nothing in them looks like inputs with targets."""
    layout = _layout(rows)
    if layout is not None:
        return Columns(layout=layout)
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    texts = {name: _texts(rows, name) for name in names}
    filled = [name for name in names if 2 * len(texts[name]) >= len(rows)]
    telling = sorted((name for name in filled if _is_telling(texts[name])), key=lambda name: -_length(texts[name]))
    target = _named(filled, TARGETS)
    input = _named([name for name in filled if name != target], INPUTS)
    why = [f"{'input' if name == input else 'target'} by its name" for name in (input, target) if name is not None]
    if input is None:
        input = next((name for name in telling if name != target), None)
        why.append("input as the longest text")
    if target is None:
        target = next((name for name in telling if name != input), None)
        why.append("target as the longest text besides")
    if input is None or target is None:
        told = f"of its columns ({', '.join(names)}) {', '.join(telling) or 'none'} hold texts"
        raise DataError(
            f"no input with a target can be told: {told}. A recipe needs a column of each, or conversations"
        )
    forbidden = next((name for name in (input, target) if FORBIDDEN.search(name)), None)
    if forbidden is not None:
        raise DataError(f"rename the column {forbidden!r}: the name of a prompt's column has no ':', '!' or braces")
    beside = next((n for n in filled if n.lower() in BESIDE and n not in (input, target)), None)
    others = tuple(name for name in names if name not in (input, target, beside))
    return Columns(None, input, target, beside, ", ".join(why), others)


def _layout(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The layout of conversations that the rows are in, where most can be read so."""
    try:
        layout = find_layout(rows[0], None)
    except DataError:
        return None
    good = 0
    for row in rows:
        try:
            question_of(row, layout)
            good += 1
        except ValueError:
            continue
    return layout.name if 2 * good >= len(rows) else None


def _texts(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    found = (row.get(name) for row in rows)
    return [text for text in found if isinstance(text, str) and text.strip()]


def _length(texts: Sequence[str]) -> float:
    return mean(map(len, texts)) if texts else 0.0


def _is_telling(texts: Sequence[str]) -> bool:
    """Whether texts are neither figures, nor numbers of rows, nor all the same."""
    if sum(FIGURES.fullmatch(text) is not None for text in texts) > len(texts) / 2:
        return False
    codes = sum(len(text.split()) == 1 and any(letter.isdigit() for letter in text) for text in texts)
    return codes <= len(texts) / 2 and (len(set(texts)) > 1 or len(texts) == 1)


def _named(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The column that has the first of the wanted names, or has it as a word in its own."""
    words = {name: re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) for name in columns}
    for exact in (True, False):
        for one in wanted:
            for name in columns:
                if name.lower() == one if exact else one in words[name]:
                    return name
    return None
