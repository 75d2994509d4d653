from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import dialogue
from tuneoff.data.examples import Example, Examples
from tuneoff.data.tokens import IGNORED, Tokeniser, keep_tail, load_tokens
from tuneoff.model.tokenizer import train_tokenizer

TAIL = "\nSummary:"


def examples(texts: list[tuple[str, str]]) -> Examples:
    made = [Example(str(n), d, f"Sum:\n{d}{TAIL}", (s,)) for n, (d, s) in enumerate(texts)]
    return Examples(made, len(made), 0, 0)


@pytest.fixture(scope="module")
def some() -> Examples:
    return examples([dialogue(n)[:2] for n in range(6)] + [("long " * 200, "end"), ("short", "word " * 90)])


def tokeniser(some: Examples, model_class: Any, source: int = 64, target: int = 40) -> Tokeniser:
    texts = [t for e in some.examples for t in (e.prompt, *e.references)]
    return Tokeniser(train_tokenizer(texts, 400, model_class), model_class, TAIL, source, target)


def quiet(done: int, total: int) -> None:
    assert done <= total


def test_seq2seq_rows_are_prompt_and_target(some: Examples) -> None:
    work = tokeniser(some, "seq2seq", 512, 128)
    path, counts = work.for_training(some, quiet)
    rows = load_tokens(path)
    first = some.examples[0]
    assert work.tokenizer.decode(rows[0]["input_ids"], skip_special_tokens=True) == first.prompt
    assert work.tokenizer.decode(rows[0]["labels"], skip_special_tokens=True) == first.references[0]
    assert rows[0]["labels"][-1] == rows[0]["input_ids"][-1] == work.tokenizer.eos_token_id
    assert (counts.examples, counts.truncated_targets) == (8, 0)
    assert counts.input_tokens == sum(map(len, rows["input_ids"]))
    assert counts.target_tokens == sum(map(len, rows["labels"]))


def test_causal_rows_learn_the_target_alone_and_its_end(some: Examples) -> None:
    work = tokeniser(some, "causal", 512, 128)
    row = load_tokens(work.for_training(some, quiet)[0])[0]
    first = some.examples[0]
    target = [token for token in row["labels"] if token != IGNORED]
    assert work.tokenizer.decode(target[:-1]) == " " + first.references[0]
    assert target[-1] == work.tokenizer.eos_token_id
    assert row["input_ids"][-len(target) :] == target
    prompt = row["input_ids"][: -len(target)]
    assert row["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    # What generation is given is the same prompt, without an end.
    assert load_tokens(work.for_generation(some, quiet)[0])[0]["input_ids"] == prompt
    assert work.tokenizer.decode(prompt) == first.prompt


@pytest.mark.parametrize("model_class", ["seq2seq", "causal"])
def test_long_inputs_lose_their_body_not_the_question_and_are_counted(some: Examples, model_class: Any) -> None:
    work = tokeniser(some, model_class)
    path, counts = work.for_training(some, quiet)
    row = load_tokens(path)[6]
    prompt = row["input_ids"] if model_class == "seq2seq" else row["input_ids"][: row["labels"].count(IGNORED)]
    assert len(prompt) == 64
    text = work.tokenizer.decode(prompt, skip_special_tokens=True)
    assert text.startswith("Sum:\nlong")
    assert text.endswith(TAIL)
    whole = [len(work.tokenizer(e.prompt)["input_ids"]) for e in some.examples]
    assert counts.truncated_inputs == sum(length > 64 for length in whole) >= 1
    assert counts.truncated_targets == 1
    target = [token for token in load_tokens(path)[7]["labels"] if token != IGNORED]
    assert (len(target), target[-1]) == (40, work.tokenizer.eos_token_id)


@given(st.lists(st.integers(0, 99), max_size=60), st.integers(2, 40), st.integers(0, 50))
def test_keep_tail_keeps_beginning_and_end(ids: list[int], limit: int, tail: int) -> None:
    kept, cut = keep_tail(ids, limit, tail)
    assert len(kept) == min(len(ids), limit)
    assert cut == (len(ids) > limit)
    assert kept[:1] == ids[:1]
    end = min(tail, limit - 1) if cut else len(ids)
    assert kept[len(kept) - end :] == ids[len(ids) - end :]


def test_the_cache_is_by_content(some: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tokeniser(some, "seq2seq")
    path, counts = work.for_training(some, quiet)
    monkeypatch.setattr(Tokeniser, "_rows", None)  # a second tokenising would fail
    assert tokeniser(some, "seq2seq").for_training(some, quiet) == (path, counts)
    monkeypatch.undo()
    assert tokeniser(some, "seq2seq", 63).for_training(some, quiet)[0] != path
    changed = examples([("other", "text")])
    assert work.for_training(changed, quiet)[0] != path


def test_half_a_cache_is_made_again(some: Examples) -> None:
    work = tokeniser(some, "seq2seq", 61)
    path, counts = work.for_training(some, quiet)
    (path / "counts.json").unlink()
    assert work.for_training(some, quiet) == (path, counts)
    assert Path(path / "counts.json").is_file()
