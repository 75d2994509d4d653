"""Turns of one conversation that share a row of tokens."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.conftest import MODELS, dialogue, write_jsonl
from tests.data.test_chat import CHATML, INST, tokenizer
from tests.data.test_conversations import inputs_of, openai, recipe_for, singles
from tuneoff.cli.data import _counts, _print_example
from tuneoff.data.batches import collator_for
from tuneoff.data.chat import chat_frame
from tuneoff.data.conversations import Turn, as_text
from tuneoff.data.examples import Example, Examples
from tuneoff.data.inputs import Inputs
from tuneoff.data.preview import preview
from tuneoff.data.tokens import IGNORED, Tokenization, count_targets, load_tokens
from tuneoff.model.base import build_model, fit_config, make_config
from tuneoff.model.engines import engine_for
from tuneoff.train.steps import row_lengths

THINKS = CHATML  # asks with an empty thought that it does not write when it tells what was said
PLAIN = CHATML.replace("{{ '<think>\\n\\n</think>\\n\\n' }}", "")


def talk(number: int, rounds: int = 3) -> list[Turn]:
    turns = [] if number % 2 else [Turn("system", "Sum up.")]
    for place in range(rounds):
        text, answer, _ = dialogue(10 * number + place)
        turns += [Turn("user", text), Turn("assistant", answer)]
    return turns


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "train.jsonl", [{"messages": openai(talk(n))} for n in range(4)])
    write_jsonl(tmp_path / "test.jsonl", [{"messages": openai(talk(9))}])
    return tmp_path


def targets(row: dict[str, list[int]]) -> list[int]:
    return [label for label in row["labels"] if label != IGNORED]


def rows_of(inputs: Inputs) -> list[Any]:
    return list(load_tokens(inputs.tokens["train"]))


@pytest.mark.parametrize("template", [PLAIN, INST])
def test_turns_share_a_row_with_the_targets_that_they_have_alone(talks: Path, template: str) -> None:
    inputs = inputs_of(talks, template, train_on="all", max_source_length=2000)
    rows, alone = rows_of(inputs), singles(inputs, talks)
    assert (len(rows), len(alone)) == (4, 12)
    for place, row in enumerate(rows):
        turns = alone[3 * place : 3 * place + 3]
        assert row["input_ids"] == turns[-1]["input_ids"]
        assert count_targets(row["labels"]) == 3
        assert targets(row) == [label for turn in turns for label in targets(turn)]
        for turn in turns:  # each target stands after the tokens that it stands after alone
            length = len(turn["input_ids"])
            assert row["input_ids"][:length] == turn["input_ids"]
            assert row["labels"][length - len(targets(turn)) : length] == targets(turn)
    statistics = inputs.data["train"]
    assert (statistics.rows, statistics.examples, statistics.sequences) == (4, 12, 4)
    assert statistics.target_tokens == sum(map(len, map(targets, alone)))
    assert statistics.target_tokens + statistics.input_tokens == sum(len(row["input_ids"]) for row in rows)
    assert _counts(statistics).endswith(
        "4 rows, 12 examples (turns of the assistant, in 4 sequences of tokens), 12 references"
    )
    assert len(load_tokens(inputs.tokens["test"])) == inputs.data["test"].examples == 1
    lengths = [(len(row["input_ids"]), len(targets(row))) for row in rows]
    assert row_lengths(load_tokens(inputs.tokens["train"])) == lengths


def test_the_loss_of_a_shared_row_is_the_sum_of_those_of_its_turns(talks: Path) -> None:
    inputs = inputs_of(talks, PLAIN, train_on="all", max_source_length=2000)
    config = make_config({**MODELS["causal"], "initializer_range": 0.3, "max_position_embeddings": 4096})
    fit_config(config, inputs.tokenizer, vocab_given=False)
    torch.manual_seed(5)
    model = build_model(config).eval()
    engine, collate = engine_for("plain", model, bf16=False), collator_for(model, inputs.tokenizer, "causal")
    with torch.no_grad():
        shared = float(engine.loss(collate(rows_of(inputs))))
        alone = sum(float(engine.loss(collate([row]))) for row in singles(inputs, talks))
    assert shared == pytest.approx(alone, rel=1e-5)


def test_a_template_that_writes_earlier_turns_otherwise_keeps_them_apart(talks: Path) -> None:
    inputs = inputs_of(talks, THINKS, train_on="all", max_source_length=2000)
    assert rows_of(inputs) == singles(inputs, talks)
    assert inputs.data["train"].sequences == inputs.data["train"].examples == 12
    assert "4 rows, 12 examples, 12 references" in _counts(inputs.data["train"])


def test_a_turn_whose_prompt_is_cut_has_a_row_of_its_own(talks: Path) -> None:
    limit = 200
    inputs = inputs_of(talks, PLAIN, train_on="all", max_source_length=limit)
    recipe = recipe_for(talks, train_on="all", max_source_length=limit)
    rows = rows_of(inputs)
    assert inputs.data["train"].truncated_inputs > 0 and 4 < len(rows) < 12
    assert sum(count_targets(row["labels"]) for row in rows) == 12
    assert max(len(row["labels"]) for row in rows) <= limit + recipe.data.max_target_length


def test_the_limit_is_of_turns(talks: Path) -> None:
    inputs = inputs_of(talks, PLAIN, train_on="all", max_source_length=2000, limit={"train": 5})
    assert [count_targets(row["labels"]) for row in rows_of(inputs)] == [3, 2]


def test_the_preview_marks_every_target_of_a_row(talks: Path) -> None:
    inputs = inputs_of(talks, PLAIN, train_on="all", max_source_length=2000)
    recipe = recipe_for(talks, train_on="all", max_source_length=2000)
    shown = preview(recipe, inputs, "train", 9)
    assert [one.id for one in shown.examples] == ["0 to 2", "3 to 5", "6 to 8", "9 to 11"]
    for number, one in enumerate(shown.examples):
        answers = [turn.content for turn in talk(number) if turn.role == "assistant"]
        assert list(one.references) == answers and one.cut_tokens == 0
        assert [segment.in_loss for segment in one.segments] == [False, True] * 3
        learnt = ["".join(segment.tokens) for segment in one.segments if segment.in_loss]
        assert learnt == [f"{answer}<|im_end|>" for answer in answers]
    assert len(shown.input_lengths) == len(shown.target_lengths) == 4
    assert sum(shown.target_lengths) == inputs.data["train"].target_tokens
    page = Console(file=io.StringIO(), width=200)
    _print_example(shown.examples[0], shown, page)
    assert page.file.getvalue().count("tokens that the loss sees:") == 3  # type: ignore[attr-defined]


def test_turns_of_two_rows_share_none(tmp_path: Path) -> None:
    """Nor are their tokens those in the cache of one row."""
    made = tokenizer(PLAIN)
    paths = []
    for again in (True, False):
        turns = talk(1)
        ends = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
        texts = [(as_text(turns[:n]), turns[n].content, tuple(turns[:n])) for n in ends]
        examples = [
            Example(str(n), asked, asked, (answer,), {"messages": asked}, said, "a:1" if again else f"a:{n}")
            for n, (asked, answer, said) in enumerate(texts)
        ]
        recipe = recipe_for(tmp_path, train_on="all", max_source_length=2000)
        work = Tokenization.of(recipe, made, "causal", chat_frame(made, "causal", "auto"))
        paths.append(work.for_training(Examples(examples, 3, 0, 0), lambda *_: None)[0])
    assert [len(load_tokens(path)) for path in paths] == [1, 3]
    assert paths[0] != paths[1]
