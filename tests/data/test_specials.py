"""Special tokens that a prompt or the data spell."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from tuneoff.data.examples import Example, Examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.specials import special_token_warnings
from tuneoff.model.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = train_tokenizer(["Ann goes to the market with Ben."], 300, "causal")
    made.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<who>"]})
    names = [("<s>", made.convert_tokens_to_ids("<s>"))]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=names)
    return made


def warnings(tokenizer: Any, prompt: str, *rows: tuple[str, str]) -> list[str]:
    examples = [Example(f"t{n}", text, text, (target,), {"text": text}) for n, (text, target) in enumerate(rows)]
    return special_token_warnings(tokenizer, Prompt(prompt), {"test": Examples(examples, len(rows), 0, 0)})


def test_texts_without_are_no_news(tokenizer: Any) -> None:
    assert warnings(tokenizer, "Sum up: {text}", ("a < s > b", "c")) == []


def test_spelled_tokens_are_counted_and_the_first_is_named(tokenizer: Any) -> None:
    told = warnings(tokenizer, "{text}", ("a", "b"), ("<s>struck</s>", "<who> Ann"), ("c", "d</s>e"))
    assert told == [
        "test: inputs that spell a special token of the tokenizer, which is read as that token: "
        "1 of 3, the first is t1 (</s>)",
        "test: targets that spell a special token of the tokenizer, which ends a text or is not written: "
        "2 of 3, the first is t1 (<who>)",
    ]


def test_a_beginning_that_would_be_doubled_is_told(tokenizer: Any) -> None:
    told = "the prompt begins with <s>, and the tokenizer puts another before every text: take it out of the prompt"
    assert warnings(tokenizer, "<s>[INST] {text} [/INST]", ("a", "b")) == [told]
    assert warnings(tokenizer, "[INST] {text} [/INST]", ("a", "b")) == []
