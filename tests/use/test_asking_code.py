"""The code of a model card asks a model by the same tokens as its trial did."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from tests.conftest import dialogue
from tests.data.test_chat import CHATML, INST, tokenizer
from tuneoff.data.chat import DAY, SAME_DAY, chat_frame, dated
from tuneoff.data.conversations import MESSAGES, Turn, as_text
from tuneoff.data.prompt import Prompt
from tuneoff.data.rendering import ConversationRendering, Rendering, TemplateRendering
from tuneoff.data.tokens import Tokenization
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.report.card import Usage, usage_code

NO_SYSTEM = (  # after Gemma's template, cut down
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + ': ' + m['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model: ' }}{% endif %}"
)
FORMATS = ("merged", "ctranslate2", "gguf")
MOST = 72
texts = st.text(st.sampled_from("abc #:\n{}'é界 "), max_size=200) | st.text(st.sampled_from("ab \n界"), min_size=150)


def asking(usage: Usage, tokenizer: Any) -> Any:
    """The card's function from a row or messages to token ids, with `tokenizer` for that which it would load."""
    tree = ast.parse(usage_code(usage))
    names = {"encode", "cut", "fit", "rendered", "fitted", "PROMPT", "BEFORE"}
    kept = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        or (isinstance(node, ast.ImportFrom) and node.module in ("string", "bisect"))
        or (isinstance(node, ast.Assign) and {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & names)
    ]
    scope: dict[str, Any] = {"tokenizer": tokenizer if usage.by_transformers else tokenizer.backend_tokenizer}
    exec(compile(ast.Module(kept, []), "README.md", "exec"), scope)
    return scope["fitted"]


def usage_of(work: Tokenization, format: str, template: str | None) -> Usage:
    columns = list(dict.fromkeys(Prompt(template).columns)) if template is not None else []
    return Usage(
        format=format, model_class=work.model_class, template=template, columns=columns, input=None, example="…",
        truncate=getattr(work.rendering, "truncate", None), chat=work.chat, day=DAY,
        same_day=SAME_DAY if work.chat is not None and dated(work.tokenizer) else None,
        fast=work.tokenizer.is_fast,
        max_source_length=work.max_source_length, max_new_tokens=8, num_beams=1, added_end=work.added_end, ends=[1],
        start=0, dtype="float32", base=None, revision=None,
    )  # fmt: skip


def work_of(template: str | None, chat: str | None, kind: Literal["seq2seq", "causal"], truncate: str | None) -> Any:
    if chat is None:
        made = train_tokenizer([text for n in range(9) for text in dialogue(n)], 400, kind)
    else:
        made = tokenizer(chat)
    frame = chat_frame(made, kind, "auto")
    rendering: Rendering = ConversationRendering(made, frame)
    if template is not None:
        rendering = TemplateRendering(Prompt(template), truncate, frame)
    return Tokenization(made, kind, rendering, MOST, 16, frame)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("template", "chat", "kind", "truncate"),
    [
        ("Sum:\n{a}\nSummary:", None, "seq2seq", None),
        ("{a} {{x}} Q: {b.c}? {a}", None, "seq2seq", None),
        ("{a}\nQ: {b}", None, "causal", "b"),
        ("Sum: {a}", INST, "causal", None),
        ("{a}\nQ: {b}\n", NO_SYSTEM, "causal", "a"),
    ],
)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_prompts(format: str, template: str, chat: str | None, kind: Any, truncate: str | None, data: Any) -> None:
    work = work_of(template, chat, kind, truncate)
    row = {name: data.draw(texts) for name in dict.fromkeys(Prompt(template).columns)}
    [(ids, whole)] = work.prompts([row])
    assert asking(usage_of(work, format, template), work.tokenizer)(row) == ids
    assert len(ids) == min(whole, MOST)
    assert (whole <= MOST) == (ids == work._encode([work.rendering.text(row)])[0])


@given(data=st.data())
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize(("template", "truncate"), [("Sum:\n{a}\nSummary:", None), ("{a}\nQ: {b}", "b")])
def test_prompts_of_a_slow_tokenizer(template: str, truncate: str | None, data: Any) -> None:
    """Which does not say where its tokens stand: whole characters are cut."""
    work = Tokenization(ByT5Tokenizer(), "seq2seq", TemplateRendering(Prompt(template), truncate), MOST, 16)
    row = {name: data.draw(texts) for name in Prompt(template).columns}
    [(ids, whole)] = work.prompts([row])
    assert asking(usage_of(work, "merged", template), work.tokenizer)(row) == ids
    assert min(whole, MOST) - 2 <= len(ids) <= MOST  # a character has up to three bytes
    assert work.tokenizer.decode(ids, skip_special_tokens=True).endswith(template[template.rindex("}") + 1 :])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("chat", [CHATML, NO_SYSTEM, "{{ strftime_now('%S') }}" + CHATML, None])
@given(system=texts, before=st.lists(st.tuples(texts, texts), max_size=3), last=texts)
@settings(max_examples=25, deadline=None)
def test_conversations(format: str, chat: str | None, system: str, before: list[tuple[str, str]], last: str) -> None:
    work = work_of(None, chat, "causal", None)
    turns = [Turn("system", system)] if system.strip() else []
    for asked, answered in before if chat is not None else []:
        turns += [Turn("user", asked + "?"), Turn("assistant", answered + "!")]
    turns.append(Turn("user", last + "?"))
    [(ids, whole)] = work.prompts([{MESSAGES: as_text(turns)}])
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert asking(usage_of(work, format, None), work.tokenizer)(messages) == ids
    assert len(ids) <= MOST
    assert before or len(ids) == min(whole, MOST)


def test_a_prompt_without_room_is_an_error_and_no_loop() -> None:
    work = work_of(None, CHATML, "causal", None)
    short = replace(usage_of(work, "merged", None), max_source_length=40)
    with pytest.raises(ValueError, match="leaves no room"):
        asking(short, work.tokenizer)([{"role": "user", "content": "Hi?"}])
    plain = replace(usage_of(work_of("Sum: {a}", None, "seq2seq", None), "merged", "Sum: {a}"), max_source_length=2)
    with pytest.raises(ValueError, match="the prompt leaves no room"):
        asking(plain, work.tokenizer)({"a": "x"})
