"""Which columns are guessed to be inputs and targets."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff.data.guess import guess_columns
from tuneoff.errors import DataError

LONG = "A text of several words that goes on for a while, number {n}, so that it is long."
SHORT = "Short text {n}."


def rows(**columns: Any) -> list[dict[str, Any]]:
    filled = [{k: v.format(n=n) if isinstance(v, str) else v for k, v in columns.items()} for n in range(20)]
    return [{name: value for name, value in row.items() if value is not None} for row in filled]


@pytest.mark.parametrize(
    ("columns", "input", "target"),
    [
        ({"id": "t{n}", "dialogue": LONG, "summary": SHORT}, "dialogue", "summary"),
        ({"highlights": SHORT, "article": LONG, "id": "{n}"}, "article", "highlights"),
        ({"Ticket Text": LONG, "Resolution": SHORT, "Agent": "Bo"}, "Ticket Text", "Resolution"),
        ({"ticketText": LONG, "finalAnswer": SHORT}, "ticketText", "finalAnswer"),
        ({"Anfrage": LONG, "Antwort": SHORT, "Datum": "2026-01-{n:02}"}, "Anfrage", "Antwort"),
        # by content: neither figures, codes nor a constant
        (
            {"a": "{n}", "b": SHORT, "c": LONG, "d": "KX-{n}", "e": "always the same long text, whatever the row"},
            "c",
            "b",
        ),
        ({"b": SHORT, "c": LONG, "text": LONG}, "text", "c"),
        ({"answer": LONG, "other": SHORT}, "other", "answer"),
        ({"review": LONG, "label": "{n}"}, "review", "label"),  # named, though figures
    ],
)
def test_texts(columns: dict[str, str], input: str, target: str) -> None:
    for row in rows(**columns):
        assert all(isinstance(value, str) for value in row.values())
    found = guess_columns(rows(**columns))
    assert (found.layout, found.input, found.target) == (None, input, target)
    assert set(found.others) == set(columns) - {input, target}


def test_what_a_question_is_about_belongs_to_the_prompt() -> None:
    found = guess_columns(rows(question=SHORT, context=LONG, answer=SHORT))
    assert (found.input, found.beside, found.target, found.others) == ("question", "context", "answer", ())


def test_how_it_was_found_is_said() -> None:
    assert guess_columns(rows(text=LONG, b=SHORT)).why == "input by its name, target as the longest text besides"
    assert guess_columns(rows(c=LONG, b=SHORT)).why == "input as the longest text, target as the longest text besides"


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "OpenAI"),
        ({"instruction": "a", "input": "", "output": "b"}, "Alpaca"),
        ({"prompt": "a", "completion": "b"}, "prompt and completion"),
    ],
)
def test_conversations(row: dict[str, Any], layout: str) -> None:
    found = guess_columns([row] * 3).layout
    assert found is not None and found.startswith(layout)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": LONG, "b": "{n}"}, r"of its columns \(a, b\) a hold texts"),
        ({"a": "{n}", "b": "{n}"}, r"of its columns \(a, b\) none hold texts"),
        ({"a:b": LONG, "summary": SHORT}, "rename the column 'a:b'"),
    ],
)
def test_what_cannot_be_told_is_said(columns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        guess_columns(rows(**columns))
