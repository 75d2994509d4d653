"""What `tuneoff generate` reads."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import Any

import pytest

from tuneoff.errors import DataError
from tuneoff.recipe import Recipe
from tuneoff.use.rows import read_given

ARMS = {"original": {"method": "none"}}
TEXTS = {"source": "x", "input": "instruction", "target": "output"}


def recipe(**values: Any) -> Recipe:
    return Recipe.model_validate({"model": "m", "arms": ARMS, **values})


def rows(*lines: bytes) -> list[Any]:
    given = read_given(lines, "a.jsonl", recipe(data=TEXTS, prompt="{instruction} {input}"))
    return [one.columns for one in given if one.asked == one.columns]


def asked(*lines: bytes) -> list[str]:
    return [one.asked["messages"] for one in read_given(lines, "a.jsonl", recipe(data={"source": "x"}))]


@pytest.mark.parametrize("mark", [b"", BOM_UTF8, BOM_UTF8 + b"  "])
def test_a_byte_order_mark_makes_no_text_of_jsonl(mark: bytes) -> None:
    lines = [mark + b'{"instruction": "a", "input": "b"}\n', b'{"instruction": "c", "input": "d"}\n']
    assert rows(*lines) == [{"instruction": "a", "input": "b"}, {"instruction": "c", "input": "d"}]


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"input": None}])
def test_columns_besides_the_input_may_be_empty(more: dict[str, str | None]) -> None:
    row = {"instruction": "a", **more}
    assert rows(json.dumps(row).encode()) == [row]


@pytest.mark.parametrize("row", [{"input": "b"}, {"instruction": " ", "input": "b"}, {"instruction": "a", "input": 3}])
def test_other_rows_are_refused(row: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no text in"):
        rows(json.dumps(row).encode())


SAID = {"role": "user", "content": "How are you?"}
MORE = [SAID, {"role": "assistant", "content": "Well."}, {"role": "user", "content": "And now?"}]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"messages": [SAID]}, "How are you?"),
        ({"messages": [SAID, {"role": "assistant", "content": "Well."}]}, "How are you?"),  # its answer is left out
        ({"conversations": [{"from": "human", "value": "How are you?"}]}, "How are you?"),
        ({"instruction": "How are you?", "input": ""}, "How are you?"),
        ({"instruction": "Translate.", "input": "Hut", "output": "hat"}, "Translate.\n\nHut"),
        ({"prompt": "How are you?"}, "How are you?"),
        ({"messages": MORE}, json.dumps(MORE)),
    ],
)
def test_conversations_come_in_any_layout(row: dict[str, Any], wanted: str) -> None:
    assert asked(json.dumps(row).encode()) == [wanted]
    (given,) = read_given([json.dumps(row).encode()], "a.jsonl", recipe(data={"source": "x"}))
    assert json.loads(given.line("Fine.")) == {**row, "prediction": "Fine."}


def test_text_is_what_the_user_says() -> None:
    assert asked(b"How are\n", b"you?\n", b"\n", b"[1, 2]\n") == ["How are\nyou?", "[1, 2]"]


def test_a_conversation_without_a_question_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no turn of the user"):
        asked(json.dumps({"messages": [{"role": "assistant", "content": "Well."}]}).encode())
    with pytest.raises(DataError, match=r"no layout of conversations has the columns text"):
        asked(b'{"text": "a"}')
