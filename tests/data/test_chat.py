"""A model's own chat template around prompts and targets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import dialogue
from tuneoff.data.chat import chat_frame, check_chat
from tuneoff.data.checks import check_room
from tuneoff.data.examples import Example, Examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.rendering import TemplateRendering
from tuneoff.data.specials import check_prompt
from tuneoff.data.tokens import IGNORED, Tokenization, load_tokens
from tuneoff.errors import ModelError
from tuneoff.model.tokenizer import train_tokenizer

# After the templates of SmolLM2 and Qwen3, of Llama 2, and of Gemma, cut down.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def tokenizer(template: str | None) -> Any:
    texts = [text for n in range(9) for text in dialogue(n)]
    made = train_tokenizer(texts, 400, "causal")
    made.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


def tokenization(template: str, source: int = 256) -> Tokenization:
    made = tokenizer(template)
    frame = chat_frame(made, "causal", "auto")
    rendering = TemplateRendering(Prompt("Sum up:\n{d}\nBe short."), None, frame)
    return Tokenization(made, "causal", rendering, source, 40, frame)


PROMPT, ANSWER = "Sum up:\n#Person1#: Hello!\nBe short.", "#Person1# says hello."


@pytest.mark.parametrize("template", [CHATML, INST])
def test_prompts_and_targets_are_what_the_template_renders(template: str) -> None:
    work = tokenization(template)
    messages = [{"role": "user", "content": PROMPT}]
    rendered = work.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    [(ids, _)] = work.prompts([{"d": "#Person1#: Hello!"}])
    assert work.tokenizer.decode(ids) == rendered
    examples = Examples([Example("0", PROMPT, PROMPT, (f" {ANSWER} ",), {"d": "#Person1#: Hello!"})], 1, 0, 0)
    row = load_tokens(work.for_training(examples, lambda *_: None)[0])[0]
    learnt = [token for token in row["labels"] if token != IGNORED]
    assert row["input_ids"] == ids + learnt
    end = work.tokenizer.eos_token
    assert work.tokenizer.decode(learnt) == (f"{ANSWER}<|im_end|>" if template == CHATML else f" {ANSWER} {end}")
    assert row["input_ids"].count(work.tokenizer.bos_token_id) == (template == INST)


def test_the_template_is_never_cut() -> None:
    work = tokenization(CHATML, source=200)
    [(ids, _)] = work.prompts([{"d": "Hello there. " * 99}])
    text = work.tokenizer.decode(ids)
    assert len(ids) == 200
    assert text.startswith("<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nSum up:\nHello")
    assert text.endswith("\nBe short.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_length_without_room_for_the_input_is_refused() -> None:
    assert check_room(tokenization(CHATML)) == []
    (problem,) = check_room(tokenization(CHATML, source=40))
    assert str(problem).startswith(
        "data.max_source_length: 40 tokens leave no room for the texts: the prompt and the ch"
    )


def test_no_prompt_changes_from_day_to_day() -> None:
    today = "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    made = tokenizer(today + "{{ date_string }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    frame = chat_frame(made, "causal", "auto")
    assert frame is not None and frame.before == "26 Jul 2024"


def test_the_frame_says_whether_spaces_are_kept_and_what_ends_a_turn() -> None:
    chatml, inst = (chat_frame(tokenizer(template), "causal", "on") for template in (CHATML, INST))
    assert chatml is not None and inst is not None
    assert (chatml.strips, inst.strips) == (False, True)
    made = tokenizer(CHATML)
    assert chatml.end_ids == [made.convert_tokens_to_ids("<|im_end|>")] and inst.end_ids[-1] == made.eos_token_id


def test_where_prompts_stay_plain() -> None:
    assert chat_frame(tokenizer(None), "causal", "auto") is None
    assert chat_frame(tokenizer(CHATML), "causal", "off") is None
    assert chat_frame(tokenizer(CHATML), "seq2seq", "auto") is None
    (problem,) = check_chat(tokenizer(None), "causal", "on")
    assert str(problem).startswith("chat: the model's tokenizer has no chat template")
    assert check_chat(tokenizer(CHATML), "causal", "on") == check_chat(tokenizer(None), "causal", "auto") == []


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no users here') }}", "no users here"),
        ("{{ messages | length }}", "does not show the user's turn"),
        ("{% for m in messages %}{{ ''.__class__.__mro__[1].__subclasses__() }}{% endfor %}", "cannot be used"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(template: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        chat_frame(tokenizer(template), "causal", "auto")


def test_a_prompt_that_writes_the_template_by_hand_is_refused_beside_the_model_s_own() -> None:
    made = tokenizer(CHATML)
    by_hand = "<|im_start|>user\nSum up: {d}<|im_end|>\n<|im_start|>assistant\n"
    frame = chat_frame(made, "causal", "auto")
    (problem,) = check_prompt(made, by_hand, frame)
    assert str(problem).startswith("prompt: it writes <|im_end|>, and the model's own chat template")
    assert check_prompt(made, by_hand, None) == check_prompt(made, "Sum up: {d}", frame) == []


def test_no_space_stands_between_a_prompt_s_own_white_space_and_the_target() -> None:
    gaps = {template: TemplateRendering(Prompt(template)).gap for template in ("Sum: {d}", "{d}\nSum:", "{d}\nA:\n")}
    assert gaps == {"Sum: {d}": " ", "{d}\nSum:": " ", "{d}\nA:\n": ""}
    made = tokenizer(None)
    work = Tokenization(made, "causal", TemplateRendering(Prompt("{d}\nA:\n")), 64, 40)
    [row] = work.with_targets(made("Hi.\nA:\n")["input_ids"], ["Fine."])
    assert made.decode(row["input_ids"]) == "Hi.\nA:\nFine.</s>"
