"""Special tokens that a text spells: a tokenizer reads `</s>` in a text as the token that ends one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tuneoff.data.examples import Example, Examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.splits import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

from tuneoff.errors import Problem
from tuneoff.records import ChatFrame

SHORTEST = 3  # characters of a special token that nobody writes by chance


def check_prompt(tokenizer: PreTrainedTokenizerBase, template: str | None, chat: ChatFrame | None) -> list[Problem]:
    """Refuses a prompt that writes a chat template's special tokens by hand, when the model's own is put around it."""
    if template is None or chat is None:
        return []
    around = chat.before + chat.after
    written = next((special for special in _specials(tokenizer) if special in around and special in template), None)
    if written is None:
        return []
    told = (
        f"it writes {written}, and the model's own chat template, which writes that, too, is put around it: leave the "
        "template's words out of the prompt, or set chat: off"
    )
    return [Problem(("prompt",), told)]


def _specials(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Special tokens that nobody writes by chance."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return sorted({text for text in (*tokenizer.all_special_tokens, *added) if len(text) >= SHORTEST})


def special_token_warnings(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt | None, splits: Mapping[Split, Examples]
) -> list[str]:
    """What becomes of special tokens that the prompt or the data spell, a sentence each.

    `prompt` is None where a chat template begins it, and for conversations.
    """
    specials = _specials(tokenizer)
    told = _doubled_beginning(tokenizer, prompt) if prompt is not None else []
    for split, examples in splits.items():
        for what, texts, becomes in (
            ("inputs", _inputs, "is read as that token"),
            ("targets", _targets, "ends a text or is not written"),
        ):
            found = list(_spelling(examples.examples, texts, specials))
            if found:
                first, special = found[0]
                told.append(
                    f"{split}: {what} that spell a special token of the tokenizer, which {becomes}: "
                    f"{len(found):,} of {len(examples.examples):,}, the first is {first.id} ({special})"
                )
    return told


def _inputs(example: Example) -> Iterable[str]:
    return example.texts


def _targets(example: Example) -> Iterable[str]:
    return example.references


def _spelling(
    examples: list[Example], texts: Callable[[Example], Iterable[str]], specials: list[str]
) -> Iterator[tuple[Example, str]]:
    for example in examples:
        whole = "\n".join(texts(example))
        special = next((special for special in specials if special in whole), None)
        if special is not None:
            yield example, special


def _doubled_beginning(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[str]:
    """Where the prompt begins with the token that the tokenizer puts before every text."""
    begin = tokenizer.bos_token_id
    ids = tokenizer(prompt.fill(dict.fromkeys(prompt.columns, "a")), verbose=False)["input_ids"]
    if begin is None or ids[:2] != [begin, begin]:
        return []
    return [
        f"the prompt begins with {tokenizer.bos_token}, and the tokenizer puts another before every text: "
        "take it out of the prompt"
    ]
