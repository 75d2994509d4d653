"""Texts that a model should go on to know: those that ship, and a user's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import recipe_values, write_jsonl
from tests.runner.resolving import QUIET
from tuneoff.data.inputs import read_inputs
from tuneoff.data.retained import RetainedText, retained_rows, retained_texts, texts_sha256
from tuneoff.data.tokens import IGNORED, Tokenization
from tuneoff.errors import DataError
from tuneoff.recipe import Recipe
from tuneoff.records import ChatFrame


def tokenization(data_folder: Path, kind: Any, chat: ChatFrame | None = None) -> tuple[Any, Tokenization]:
    recipe = Recipe.model_validate(recipe_values(data_folder, kind))
    tokenizer = read_inputs(recipe, None, QUIET).tokenizer
    return tokenizer, Tokenization.of(recipe, tokenizer, kind, chat)


def test_those_that_ship_are_sixty_of_seven_kinds_no_two_alike() -> None:
    texts = retained_texts(None)
    assert Counter(text.kind for text in texts) == {
        "prose": 12, "code": 10, "arithmetic": 8, "lists": 8, "dialogue": 6, "German": 8, "Spanish": 8,
    }  # fmt: skip
    assert len({text.text for text in texts}) == 60 and all(text.target is None for text in texts)
    assert texts_sha256(texts) == texts_sha256(retained_texts(None))
    assert texts_sha256(texts) != texts_sha256(texts[:-1])


def test_a_decoder_only_model_is_scored_on_the_whole_text(data_folder: Path) -> None:
    tokenizer, work = tokenization(data_folder, "causal")
    texts = [RetainedText("prose", "The tide comes twice a day."), RetainedText("own", "Buy a lamp", "for 9 dollars")]
    found = retained_rows(texts, "own.jsonl", tokenizer, work)
    whole, asked = found.rows
    ids = tokenizer(texts[0].text)["input_ids"]
    assert whole == {"input_ids": ids, "labels": [IGNORED, *ids[1:]]}
    target = [*tokenizer(" for 9 dollars")["input_ids"], tokenizer.eos_token_id]
    assert asked["labels"][-len(target) :] == target and set(asked["labels"][: -len(target)]) == {IGNORED}
    assert found.mark.tokens == [len(ids) - 1, len(target)]
    assert found.mark.conditioned == ["whole", "target"] and found.mark.kinds == ["prose", "own"]
    assert found.mark.source == "own.jsonl"


def test_an_encoder_decoder_model_reads_the_first_half_and_is_scored_on_the_rest(data_folder: Path) -> None:
    tokenizer, work = tokenization(data_folder, "seq2seq")
    (row,) = retained_rows([RetainedText("prose", "one two three four")], None, tokenizer, work).rows
    assert row["input_ids"] == tokenizer("one two")["input_ids"]
    assert row["labels"] == tokenizer(text_target="three four")["input_ids"]


def test_an_input_is_the_user_s_turn_where_the_model_has_a_chat_template(data_folder: Path) -> None:
    frame = ChatFrame(before="<u>", after="</u><a>", end_ids=[7], strips=True)
    tokenizer, work = tokenization(data_folder, "causal", frame)
    texts = [RetainedText("own", "Hello", "Good day"), RetainedText("own", "Hello")]
    asked, whole = retained_rows(texts, None, tokenizer, work).rows
    prompt = tokenizer("<u>Hello</u><a>", add_special_tokens=False)["input_ids"]
    assert asked["input_ids"][: len(prompt)] == prompt and asked["input_ids"][-1] == 7
    assert whole["input_ids"] == tokenizer("Hello")["input_ids"]


def test_a_long_text_is_cut_at_the_lengths_of_the_run(data_folder: Path) -> None:
    tokenizer, work = tokenization(data_folder, "causal")
    (row,) = retained_rows([RetainedText("own", "the lamp " * 2000)], None, tokenizer, work).rows
    assert len(row["input_ids"]) == work.max_source_length


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    write_jsonl(path, [{"text": "A first text.", "kind": "law"}, {"input": "2 + 2 =", "target": "4", "id": 3}])
    assert retained_texts(str(path)) == [RetainedText("law", "A first text."), RetainedText("own", "2 + 2 =", "4")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a b"}, {"words": "a b"}], r"own.jsonl:2: a row of evaluation.retain has `text`, or .* has words"),
        ([{"text": "a b"}, {"input": "a b"}], r"own.jsonl:2: .*this one has input"),
        ([{"text": "a b"}, {"text": " "}], r"own.jsonl:2: text must be text, and not empty"),
        ([{"text": "a b"}, {"text": 7}], r"own.jsonl:2: text must be text, and not empty"),
        ([{"text": "a b"}], "needs at least two texts"),
    ],
)
def test_a_row_that_is_no_text_is_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    write_jsonl(tmp_path / "own.jsonl", rows)
    with pytest.raises(DataError, match=message):
        retained_texts(str(tmp_path / "own.jsonl"))


def test_a_file_that_is_not_there_and_a_text_of_one_token_are_told(tmp_path: Path, data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: cannot read: No such file"):
        retained_texts(str(tmp_path / "nowhere.jsonl"))
    tokenizer, work = tokenization(data_folder, "causal")
    with pytest.raises(DataError, match=r"evaluation\.retain, text 1: 'a' is too short to be scored"):
        retained_rows([RetainedText("own", "a")], None, tokenizer, work)
