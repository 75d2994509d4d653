"""The code that uses an export with its own library alone: what a card shows, and what the export is verified by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tuneoff.records import ChatFrame

HERE = Path(__file__).parent / "usage"


@dataclass(frozen=True)
class Usage:
    """What the code must know. `base` and `revision` are of the original model that an adapter goes with.

    `template` is the prompt's, with its `columns`, of which `input` is shown with the text `example`; None for
    conversations. `truncate` is the column that is cut where the prompt is too long, or None for the longest. `chat` is
    what the model's chat template puts around a turn; it writes the special tokens, too. `day` is what a template is
    told that asks for the date, and `same_day` what stands before one that finds it out by itself, or None. `fast` says
    whether the tokenizer tells where its tokens stand.

    `added_end` are the tokens that the tokenizer adds at a prompt's end and that are taken off, `ends` all ids that end
    a text, `start` the id that begins one (encoder-decoder models).
    """

    format: str
    model_class: Literal["seq2seq", "causal"]
    template: str | None
    columns: list[str]
    input: str | None
    example: str
    truncate: str | None
    chat: ChatFrame | None
    day: str
    same_day: str | None
    fast: bool
    max_source_length: int
    max_new_tokens: int
    num_beams: int
    added_end: int
    ends: list[int]
    start: int | None
    dtype: str
    base: str | None
    revision: str | None

    @property
    def by_transformers(self) -> bool:
        """Whether the code has the tokenizer from transformers, which alone knows chat templates."""
        return self.format in ("adapter", "merged") or (self.template is None and self.chat is not None)


def usage_code(usage: Usage) -> str:
    """A program, to be run in the export's folder, that defines `generate` and prints a text.

    `generate` takes a dict of the prompt's columns, or a list of messages.
    """
    return _environment().get_template(f"{usage.format.partition('-')[0]}.py.j2").render(use=usage)


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
