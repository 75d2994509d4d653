"""The code that uses an export with its own library alone: what a card shows, and what the export is verified by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent / "usage"


@dataclass(frozen=True)
class Usage:
    """What the code must know. `base` and `revision` are of the original model that an adapter goes with.

    `prompt` is the template of all that the model is given, a chat template's text included. `special_tokens` says
    whether the tokenizer adds its special tokens: a chat template has them already.

    `tail_tokens` are the tokens at a prompt's end that truncation keeps, the tokenizer's closing ones among them;
    `added_end` those that the tokenizer adds at the end and that are taken off, `ends` all ids that end a text, `start`
    the id that begins one (encoder-decoder models).
    """

    format: str
    model_class: Literal["seq2seq", "causal"]
    prompt: str
    special_tokens: bool
    example: dict[str, str]
    max_source_length: int
    tail_tokens: int
    max_new_tokens: int
    num_beams: int
    added_end: int
    ends: list[int]
    start: int | None
    dtype: str
    base: str | None
    revision: str | None

    @property
    def columns_are_names(self) -> bool:
        """Whether Python's `format` takes the prompt: `{text.en}` would ask it for an attribute."""
        return all(name.isidentifier() for name in self.example)


def usage_code(usage: Usage) -> str:
    """A program, to be run in the export's folder, that defines `PROMPT` and `generate(prompt)` and prints a text."""
    return _environment().get_template(f"{usage.format}.py.j2").render(use=usage)


def _literal(value: Any) -> str:
    """`value` as Python source: strings in double quotes, on one line."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = _literal
    return environment
