"""A model's own chat template around a prompt: the prompt is the user's turn, the target the assistant's.

An instruct model that is asked otherwise goes on with the text in place of answering it. What the template puts around
a turn is found by rendering two marks, once, so that prompts, targets and exported code need no template engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tuneoff.errors import ModelError, Problem, first_line
from tuneoff.records import ChatFrame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DAY = "26 Jul 2024"  # for templates that ask for one, as Llama 3's: with today's, prompts would change from day to day
SAME_DAY = f"{{%- macro strftime_now(form) -%}}{DAY}{{%- endmacro -%}}"  # before a template that asks for today's
LONGEST = 100_000  # characters around turns
ASKED, ANSWERED, SAID = "[the-prompt]", "[the-answer]", "[the-system]"


def chat_frame(
    tokenizer: PreTrainedTokenizerBase, kind: Literal["seq2seq", "causal"], chat: Literal["auto", "on", "off"]
) -> ChatFrame | None:
    """What the tokenizer's template puts around a prompt and after an answer; None where prompts are plain text.

    Thinking is switched off where the template offers it. Raises ModelError where the template cannot be used.
    """
    if chat == "off" or kind == "seq2seq" or tokenizer.chat_template is None:
        return None
    try:
        return _frame(tokenizer)
    except ModelError as error:
        raise ModelError(f"{error} Set chat: off to ask with plain text") from error


def _frame(tokenizer: PreTrainedTokenizerBase) -> ChatFrame:
    asked = render(tokenizer, [{"role": "user", "content": f"\t{ASKED}\t"}])
    before, found, after = asked.partition(ASKED)
    if not found:
        raise ModelError("the model's chat template does not show the user's turn.")
    keeps_spaces = before.endswith("\t") and after.startswith("\t")
    if keeps_spaces:
        before, after = before[:-1], after[1:]
    answered = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    whole = render(tokenizer, answered, asks=False)
    until, found, end = whole.rpartition(ANSWERED)
    prompt = f"{before}{ASKED}{after}"
    return ChatFrame(
        before=before,
        after=after,
        answer_before=until.removeprefix(prompt) if until.startswith(prompt) else "",
        end_ids=_end(tokenizer, end if found else ""),
        strips=not keeps_spaces,
        takes_system=_takes_system(tokenizer),
    )


def _takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template shows what a system says; Gemma's refuses it."""
    try:
        text = render(tokenizer, [{"role": "system", "content": SAID}, {"role": "user", "content": ASKED}])
    except ModelError:
        return False
    return SAID in text


def check_chat(tokenizer: PreTrainedTokenizerBase, kind: Literal["seq2seq", "causal"], chat: str) -> list[Problem]:
    """What is wrong where the recipe asks for a chat template."""
    if chat != "on":
        return []
    if kind == "seq2seq":
        return [Problem(("chat",), "an encoder-decoder has no chat template; leave it out, or set chat: off")]
    if tokenizer.chat_template is None:
        return [Problem(("chat",), "the model's tokenizer has no chat template; leave it out, or set chat: off")]
    return []


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, asks: bool = True) -> str:
    """Messages by the tokenizer's chat template; with `asks`, up to where the assistant's next turn begins.

    Thinking is switched off where the template offers it. Raises ModelError where the template cannot be used.
    """
    try:
        template = f"{SAME_DAY}{tokenizer.get_chat_template()}" if dated(tokenizer) else None
        text = tokenizer.apply_chat_template(
            list(messages),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=asks,
            enable_thinking=False,
            date_string=DAY,
        )
    except Exception as error:  # a template may raise whatever it likes
        raise ModelError(f"the model's chat template cannot be used: {first_line(error)}") from error
    if len(text) > LONGEST + sum(len(message["content"]) for message in messages):
        raise ModelError("the model's chat template writes without end")
    return str(text)


def dated(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template asks for today's date by itself."""
    return "strftime_now" in str(tokenizer.get_chat_template())


def _end(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens that end an answer: those after it up to the first special one, or else the tokenizer's own end."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    place = next((n for n, token in enumerate(ids) if token in special), None)
    return [int(tokenizer.eos_token_id)] if place is None else ids[: place + 1]
