"""Conversations in the layouts that people have, and what a model is asked by them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MODELS, write_jsonl
from tests.data.test_chat import CHATML, INST, tokenizer
from tests.runner.resolving import QUIET
from tuneoff.data.chat import chat_frame, render
from tuneoff.data.conversations import Turn, as_rows, as_text, as_turns, last_question, shown
from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.data.preview import preview
from tuneoff.data.rendering import ConversationRendering
from tuneoff.data.rows import Row
from tuneoff.data.sources import open_source
from tuneoff.data.splits import read_split
from tuneoff.data.tokens import IGNORED, Tokenization, load_tokens
from tuneoff.errors import DataError
from tuneoff.recipe import Recipe

ASK, SAY, AGAIN, END = Turn("user", "Hi?"), Turn("assistant", "Hi."), Turn("user", "And?"), Turn("assistant", "Bye.")
RULE = Turn("system", "Be short.")


def openai(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def sharegpt(turns: Sequence[Turn]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn.role], "value": turn.content} for turn in turns]


def converted(rows: list[dict[str, Any]], train_on: Any = "last", messages: str | None = None) -> tuple[Any, list[Row]]:
    layout, found = as_rows([Row(row, f"a:{n}") for n, row in enumerate(rows)], messages, train_on)
    return layout, list(found)


@pytest.mark.parametrize(
    ("row", "layout", "asked"),
    [
        ({"messages": openai([RULE, ASK, SAY])}, "OpenAI (messages: role, content)", [RULE, ASK]),
        ({"messages": json.dumps(openai([ASK, SAY]))}, "OpenAI (messages: role, content)", [ASK]),  # as csv has it
        ({"conversations": sharegpt([ASK, SAY]), "system": "Be short."}, "ShareGPT (conversations: f", [RULE, ASK]),
        ({"instruction": "Hi?", "input": "", "output": "Hi."}, "Alpaca (instruction, input, output)", [ASK]),
        (
            {"instruction": "Hi?", "input": "x", "output": "Hi.", "history": [["Hi?", "Hi."]], "system": ""},
            "Alpaca (instruction, input, output)",
            [ASK, SAY, Turn("user", "Hi?\n\nx")],
        ),
        ({"prompt": "Hi?", "completion": "Hi."}, "prompt and completion", [ASK]),
        ({"prompt": openai([ASK]), "completion": openai([SAY])}, "prompt and completion", [ASK]),
        ({"prompt": "unused", "messages": openai([ASK, SAY])}, "OpenAI (messages: role, content)", [ASK]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, openai([SAY])[0]]}, "Op", [ASK]),
        ({"messages": [{"role": "system", "content": ""}, *openai([ASK, SAY])]}, "OpenAI", [ASK]),  # as many insert it
        ({"conversations": sharegpt([Turn("assistant", "Welcome."), RULE, ASK, SAY])}, "ShareGPT", [RULE, ASK]),
        ({"instruction": "", "input": "Hi?", "output": "Hi.", "history": [["", "Hello"]]}, "Alpaca", [ASK]),
    ],
)
def test_every_layout_is_told_apart(row: dict[str, Any], layout: str, asked: list[Turn]) -> None:
    name, [found] = converted([{"id": 7, **row}])
    assert name.startswith(layout)
    assert found.unreadable is None
    assert (found.columns["id"], as_turns(found.columns["messages"]), found.columns["target"]) == (7, asked, "Hi.")


def test_a_column_of_another_name_is_named_in_the_recipe() -> None:
    rows = [{"chat": sharegpt([ASK, SAY]), "messages": "x"}]
    assert converted(rows, messages="chat")[0] == "ShareGPT (chat: from, value)"
    with pytest.raises(DataError, match="the data has no column 'talk'; it has chat, messages"):
        converted(rows, messages="talk")


def test_the_last_answer_is_the_target_or_each_of_them() -> None:
    rows = [{"messages": openai([RULE, ASK, SAY, AGAIN, END, Turn("user", "Thanks.")])}]
    _, [last] = converted(rows)
    assert (as_turns(last.columns["messages"]), last.columns["target"]) == ([RULE, ASK, SAY, AGAIN], "Bye.")
    _, every = converted(rows, "all")
    assert [as_turns(row.columns["messages"]) for row in every] == [[RULE, ASK], [RULE, ASK, SAY, AGAIN]]
    assert [row.columns["target"] for row in every] == ["Hi.", "Bye."]


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "has no list of messages in 'messages'"),
        ([{"role": "system", "content": " "}], "has no message with text in 'messages'"),
        ("Hi?", "has no list of messages in 'messages'"),
        (["Hi?"], "has a message in 'messages' that is no object with role and content"),
        ([{"role": "tool", "content": "1"}], "has the role 'tool' in 'messages'; roles are system, user and assistant"),
        ([{"role": "user", "content": " "}], "has a message of the user without text in 'messages'"),
        ([{"role": "user", "content": "\ud800"}], "has a lone surrogate in 'messages', which is no Unicode text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "has a part in 'messages' that is no text"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "has tool_calls in 'messages'"),
        (openai([ASK]), "has no answer of the assistant to one of the user"),
        (openai([SAY, ASK]), "has no answer of the assistant to one of the user"),
    ],
)
def test_what_is_no_conversation_is_a_bad_row(messages: Any, told: str) -> None:
    _, [good, bad] = converted([{"messages": openai([ASK, SAY])}, {"messages": messages}])
    assert good.unreadable is None and bad.where == "a:1"
    assert bad.unreadable is not None and bad.unreadable.startswith(told)


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(min_size=1)), min_size=1, max_size=4)
)
def test_turns_are_the_same_after_a_text(pairs: list[tuple[Any, str]]) -> None:
    turns = [Turn(role, content) for role, content in pairs if content.strip()]
    if turns:
        assert as_turns(as_text(turns)) == turns


def test_a_person_reads_them_as_text() -> None:
    assert (as_text([ASK]), shown([ASK]), last_question("Hi?")) == ("Hi?", "Hi?", "Hi?")
    assert as_turns("[]") == [Turn("user", "[]")] and as_text([Turn("user", "[]")]) == "[]"
    assert shown([RULE, ASK]) == "system: Be short.\nuser: Hi?"
    assert last_question(as_text([ASK, SAY, AGAIN])) == "And?"


def recipe_for(folder: Path, **data: Any) -> Recipe:
    values = {
        "model": {"config": MODELS["causal"], "tokenizer": str(folder / "tokenizer")},
        "data": {"source": str(folder), "splits": {"validation": None}, **data},
        "arms": {"full": {"method": "full", "learning_rate": 1e-3}},
    }
    return Recipe.model_validate(values)


def inputs_of(folder: Path, template: str | None, **data: Any) -> Inputs:
    tokenizer(template).save_pretrained(folder / "tokenizer")
    return read_inputs(recipe_for(folder, **data), None, QUIET)


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "train.jsonl", [{"messages": openai([RULE, ASK, SAY, AGAIN, END])}])
    write_jsonl(tmp_path / "test.jsonl", [{"messages": openai([ASK, SAY, AGAIN, Turn("assistant", "So.")])}])
    return tmp_path


def singles(inputs: Inputs, folder: Path) -> list[dict[str, list[int]]]:
    """The tokens of each turn of the training split in a row of its own."""
    recipe = recipe_for(folder, train_on="all")
    work = Tokenization.of(recipe, inputs.tokenizer, inputs.model_class, inputs.chat)
    examples = read_split(recipe, open_source(recipe.data), "train", "train").examples
    asked = work.prompts([example.columns for example in examples])
    return [
        row
        for example, (prompt, _) in zip(examples, asked, strict=True)
        for row in work.with_targets(prompt, example.references)
    ]


WITHOUT_SYSTEM = INST.replace("{{ bos_token }}", "").replace("{% else %}", "{% elif m['role'] == 'assistant' %}")


@pytest.mark.parametrize("template", [CHATML, WITHOUT_SYSTEM])
def test_the_loss_sees_the_answers_and_their_ends(talks: Path, template: str) -> None:
    """Each is what the template renders: of Qwen's kind, too, which asks with other words than it tells by."""
    inputs = inputs_of(talks, template, train_on="all")
    rows = singles(inputs, talks)
    asked = [[RULE, ASK], [RULE, ASK, SAY, AGAIN]]
    for row, turns, answer in zip(rows, asked, ["Hi.", "Bye."], strict=True):
        learnt = [token for token in row["labels"] if token != IGNORED]
        if "im_start" in template:
            messages = openai(turns)
            prompt = inputs.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            assert inputs.tokenizer.decode(row["input_ids"][: -len(learnt)]) == prompt
            assert inputs.tokenizer.decode(learnt) == f"{answer}<|im_end|>"
        else:  # the template shows no system: its words stand in the user's first turn
            prompt = inputs.tokenizer.decode(row["input_ids"][: -len(learnt)])
            assert prompt.startswith("[INST] Be short.\n\nHi? [/INST]")
            assert inputs.tokenizer.decode(learnt) == f" {answer} </s>"
    assert inputs.data["train"].layout == "OpenAI (messages: role, content)"
    [scored] = load_tokens(inputs.tokens["test"])
    assert (scored["references"], scored["input"]) == (["So."], "user: Hi?\nassistant: Hi.\nuser: And?")


def test_several_turns_need_a_template(talks: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:1: a conversation of several turns needs a model with a chat"):
        inputs_of(talks, None)


def test_single_turns_are_asked_as_text_without_one(tmp_path: Path) -> None:
    for split in ("train", "test"):
        row = {"instruction": "Say", "input": split, "output": "Hi.", "system": "Be short."}
        write_jsonl(tmp_path / f"{split}.jsonl", [row])
    inputs = inputs_of(tmp_path, None)
    [row] = load_tokens(inputs.tokens["test"])
    assert inputs.tokenizer.decode(row["input_ids"]) == "Be short.\n\nSay\n\ntest"


def test_a_long_conversation_loses_its_oldest_turns_and_never_its_last_question(tmp_path: Path) -> None:
    talk = [RULE, Turn("user", "old " * 40), SAY, Turn("user", "What is new?")]
    long = [RULE, Turn("user", "Is it true? " + "word " * 90 + "Yes or no?")]
    rows = [{"messages": openai([*turns, END])} for turns in (talk, long)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", [{"messages": openai([ASK, SAY])}])
    inputs = inputs_of(tmp_path, CHATML, max_source_length=80)
    assert inputs.data["train"].truncated_inputs == 2
    first, second = (inputs.tokenizer.decode(row["input_ids"]) for row in load_tokens(inputs.tokens["train"]))
    assert "old" not in first and "Hi." not in first
    assert "Be short." in first and "What is new?" in first
    assert "Be short." in second and "user\nIs it true? word" in second and "Yes or no?" in second


def test_a_conversation_that_the_template_refuses_is_a_bad_row(tmp_path: Path) -> None:
    alternating = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if loop.index0 and m.role == messages[loop.index0 - 1].role %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}",
    )
    rows = [{"messages": openai(turns)} for turns in ([ASK, AGAIN, SAY], [ASK, SAY])]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", rows[1:])
    with pytest.raises(DataError, match=r"train\.jsonl:1: the model's chat template cannot be used: roles must alt"):
        inputs_of(tmp_path, alternating, allow_overlap=True)
    inputs = inputs_of(tmp_path, alternating, allow_overlap=True, on_bad_row="skip")
    assert (inputs.data["train"].examples, inputs.data["train"].skipped_rows) == (1, 1)
    assert any("1 bad rows left out (train.jsonl:1: the model's chat template" in text for text in inputs.warnings)
    shown = preview(recipe_for(tmp_path, allow_overlap=True, on_bad_row="skip"), inputs, "train", 3)
    assert [one.references for one in shown.examples] == [("Hi.",)]


def test_a_conversation_of_many_turns_is_cut_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer(CHATML)
    frame = chat_frame(made, "causal", "auto")
    work = Tokenization(made, "causal", ConversationRendering(made, frame), 300, 16, frame)
    turns = [turn for n in range(400) for turn in (Turn("user", f"Question {n}?"), Turn("assistant", f"Answer {n}."))]
    asked = [RULE, *turns, Turn("user", "And now?")]
    rendered = []
    text = ConversationRendering.text
    monkeypatch.setattr(ConversationRendering, "text", lambda *row: rendered.append(row) or text(*row))
    [(ids, whole)] = work.prompts([{"messages": as_text(asked)}])
    assert whole > 4000 and len(rendered) < 15
    later = range(len(asked) - 61, len(asked), 2)
    kept = [n for n in later if ids == work._encode([work.rendering.text(of([RULE, *asked[n:]]))])[0]]
    assert len(kept) == 1 and len(asked) - kept[0] > 5
    more = work.rendering.text(of([RULE, *asked[kept[0] - 2 :]]))
    assert len(ids) <= 300 < work.length(more), "no turn is left out that there is room for"


def of(turns: list[Turn]) -> dict[str, str | None]:
    return {"messages": as_text(turns)}


def test_a_template_that_asks_for_today_s_date_is_told_another() -> None:
    made = tokenizer("{{ strftime_now('%d %b %Y %H:%M:%S') }}|" + CHATML)
    assert render(made, openai([ASK])).startswith("26 Jul 2024|<|im_start|>system")
