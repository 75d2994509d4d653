from __future__ import annotations

from typing import Any

import pytest

from tuneoff.data.examples import Examples, read_examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.rows import Row
from tuneoff.errors import DataError

PROMPT = Prompt("Sum up {topic}:\n{dialogue}\nSummary:")


def read(rows: list[dict[str, Any]], **options: Any) -> Examples:
    settings = {"group_references": False, "limit": None, "skip_bad_rows": False, **options}
    placed = [Row(columns, f"a.jsonl:{n}") for n, columns in enumerate(rows, start=1)]
    return read_examples(placed, input="dialogue", target="summary", prompt=PROMPT, **settings)


def row(dialogue: Any, summary: Any = "s", topic: Any = "t", **more: Any) -> dict[str, Any]:
    return {"dialogue": dialogue, "summary": summary, "topic": topic, **more}


def test_rows_of_one_prompt_are_references_of_one_example_wherever_they_stand() -> None:
    got = read([row("a", "1", id="x"), row("b", "2"), row("a", "3")], group_references=True)
    assert [(e.id, e.input, e.references) for e in got.examples] == [
        ("x", "Sum up t:\na\nSummary:", ("1", "3")),
        ("1", "Sum up t:\nb\nSummary:", ("2",)),
    ]


def test_questions_on_one_context_are_examples_of_their_own() -> None:
    rows = [
        Row({"text": "Ann is in Rome.", "factual?": question, "Short Answer": answer}, f"a.csv:{n}")
        for n, (question, answer) in enumerate([("Who?", "Ann"), ("Where?", "Rome"), ("Who?", "she")])
    ]
    got = read_examples(
        rows, input="text", target="Short Answer", prompt=Prompt("{text}\nQ: {factual?}"), group_references=True,
        limit=None, skip_bad_rows=False,
    )  # fmt: skip
    assert [(e.input, e.references) for e in got.examples] == [
        ("Ann is in Rome.\nQ: Who?", ("Ann", "she")),
        ("Ann is in Rome.\nQ: Where?", ("Rome",)),
    ]


@pytest.mark.parametrize("topic", ["", None])
def test_a_column_that_is_neither_input_nor_target_may_be_empty(topic: str | None) -> None:
    got = read([row("a"), row("b", topic=topic), {"dialogue": "c", "summary": "s"}])
    assert [e.prompt for e in got.examples[1:]] == ["Sum up :\nb\nSummary:", "Sum up :\nc\nSummary:"]


def test_the_first_row_may_lack_a_column_that_later_ones_have() -> None:
    got = read([{"dialogue": "a", "summary": "s"}, row("b")])
    assert [e.prompt for e in got.examples] == ["Sum up :\na\nSummary:", "Sum up t:\nb\nSummary:"]
    for grouped in (False, True):
        with pytest.raises(DataError, match="no column 'topic'; the choices are"):
            read([{"dialogue": text, "summary": "s", "them": "x"} for text in "ab"], group_references=grouped)


def test_the_limit_counts_dialogues_not_rows() -> None:
    rows = [row(d, str(k)) for d in "abc" for k in range(3)]
    got = read(rows, group_references=True, limit=2)
    assert [(e.prompt[10:11], len(e.references)) for e in got.examples] == [("a", 3), ("b", 3)]
    assert len(read(rows, limit=4).examples) == 4


def test_the_prompt_takes_any_column_and_leaves_braces_alone() -> None:
    assert read([row("{x} {topic}", topic="cats")]).examples[0].prompt == "Sum up cats:\n{x} {topic}\nSummary:"
    assert Prompt("{{}} {a}").fill({"a": "b"}) == "{} b"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(None), "a.jsonl:2 has null in 'dialogue'"),
        (row(3), "a.jsonl:2 has int in 'dialogue', where text belongs"),
        (row("a", " \n"), "a.jsonl:2 is empty in 'summary'"),
        (row("a\ud800"), "a.jsonl:2 has a lone surrogate"),
        ({"dialogue": "a", "topic": "b"}, "a.jsonl:2 has no 'summary'"),
        (row("a", topic=7), "a.jsonl:2 has int in 'topic', where text belongs"),
    ],
)
def test_a_bad_row_is_an_error_with_its_place_or_counted(bad: dict[str, Any], message: str) -> None:
    rows = [row("a"), bad, row("c")]
    with pytest.raises(DataError, match="on_bad_row: skip") as caught:
        read(rows)
    assert message in str(caught.value)
    got = read(rows, skip_bad_rows=True)
    assert (len(got.examples), got.rows, got.skipped_rows) == (2, 3, 1)
    assert message in got.skipped_places[0]


def test_a_wrong_column_name_is_told_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no column 'dialogue'; did you mean 'dialog'"):
        read([{"dialog": "a", "summary": "b", "topic": "c"}], skip_bad_rows=True)


def test_duplicates_are_counted_and_kept() -> None:
    got = read([row("a"), row("a"), row("b")])
    assert (got.duplicate_rows, len(got.examples)) == (1, 3)


def test_the_hash_is_of_what_the_model_sees() -> None:
    base = read([row("a")]).content_sha256
    assert read([row("a", other=1)]).content_sha256 == base
    assert read([row("a", topic="u")]).content_sha256 != base
    assert read([row("a", "z")]).content_sha256 != base


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(DataError, match="no usable row"):
        read([row(None)], skip_bad_rows=True)


def test_a_group_is_what_a_column_says_and_a_row_without_is_for_itself() -> None:
    rows = [row(f"d{n}", user=value) for n, value in enumerate([3, "a", None, "", 3])]
    found = read(rows, group="user")
    assert [example.group for example in found.examples] == ["3", "a", "a.jsonl:3", "a.jsonl:4", "3"]
    assert found.groups == 4
    assert read(rows).groups is None
    with pytest.raises(DataError, match="no column 'usr'; did you mean 'user'"):
        read(rows, group="usr")
