"""What `tuneoff generate` reads: inputs as plain text, or jsonl with the data's columns."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tuneoff.data.conversations import MESSAGES, Turn, as_text, find_layout, is_unicode, question_of
from tuneoff.data.prompt import Prompt
from tuneoff.data.rows import read_jsonl
from tuneoff.errors import DataError
from tuneoff.recipe import Recipe


@dataclass(frozen=True)
class Given:
    """One input.

    Attributes:
        asked: What a writer takes: the prompt's columns, or a conversation.
        columns: The object that it came as; None where it came as text.
        where: Its place, for people.
    """

    asked: dict[str, str]
    columns: dict[str, Any] | None
    where: str

    def line(self, prediction: str) -> str:
        """What is written for it: the object with its prediction, or the text in one line."""
        if self.columns is not None:
            return json.dumps({**self.columns, "prediction": prediction}, ensure_ascii=False)
        return " ".join(prediction.split())


def read_given(lines: Iterable[bytes], name: str, recipe: Recipe) -> Iterator[Given]:
    """Each input, as lines come: jsonl where the first begins with a brace, else text.

    Text holds one input, or several with an empty line between them. Columns of the prompt besides the input may be
    empty, null or missing in a row. A conversation comes in any layout of `data.conversations`; an answer at its end is
    left out. Raises DataError, with the line, for what is neither, for a row without an input, and for a column that is
    no text.
    """
    columns = [MESSAGES] if recipe.prompt is None else Prompt(recipe.prompt).columns
    stream = iter(lines)
    first = next((line for line in stream if line.strip()), None)
    if first is None:
        raise DataError(f"{name} is empty: an input as text, or jsonl with {', '.join(columns)}")
    whole = chain([first], stream)
    if first.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
        if recipe.data.input is None:
            yield from _conversations(whole, name, recipe.data.messages)
        else:
            yield from _checked(whole, name, columns, recipe.data.input)
    elif len(columns) > 1:
        raise DataError(f"{name}: the prompt has the columns {', '.join(columns)}: give jsonl with all of them")
    else:
        for text in _texts(whole, name):
            yield Given({columns[0]: text if recipe.data.input else as_text([Turn("user", text)])}, None, name)


def _conversations(lines: Iterable[bytes], name: str, messages: str | None) -> Iterator[Given]:
    layout = None
    for row in read_jsonl(lines, name):
        if row.unreadable:
            raise DataError(f"{row.where} {row.unreadable}")
        layout = layout or find_layout(row.columns, messages, answered=False)
        try:
            yield Given({MESSAGES: question_of(row.columns, layout)}, row.columns, row.where)
        except ValueError as error:
            raise DataError(f"{row.where} {error}") from None


def _checked(lines: Iterable[bytes], name: str, columns: list[str], input: str) -> Iterator[Given]:
    for row in read_jsonl(lines, name):
        if row.unreadable:
            raise DataError(f"{row.where} {row.unreadable}")
        for column in columns:
            value = row.columns.get(column)
            if value is None and column != input:
                continue
            if not isinstance(value, str) or (column == input and not value.strip()):
                raise DataError(f"{row.where} has no text in {column!r}")
            if not is_unicode(value):
                raise DataError(f"{row.where} has a lone surrogate in {column!r}, which is no Unicode text")
        yield Given(row.columns, row.columns, row.where)


def _texts(lines: Iterable[bytes], name: str) -> Iterator[str]:
    text: list[str] = []
    for number, line in enumerate(chain(lines, [b""]), start=1):
        try:
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}:{number} is not UTF-8 (byte {error.start} of the line)") from None
        if decoded.strip():
            text.append(decoded)
        elif text:
            yield "\n".join(text)
            text = []
