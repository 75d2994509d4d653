"""What `tuneoff generate` reads: inputs as plain text, or rows with the data's columns."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tuneoff.data.compression import inner_suffix, open_bytes
from tuneoff.data.conversations import MESSAGES, Turn, as_text, find_layout, is_unicode, question_of
from tuneoff.data.formats import DELIMITERS, FALLBACK, UTF8, Format, GivenFormat, find_format
from tuneoff.data.prompt import Prompt
from tuneoff.data.rows import SUFFIXES, Row, read_jsonl, read_rows, utf8_lines
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
            return json.dumps({**self.columns, "prediction": prediction}, ensure_ascii=False, default=str)
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
        yield from _of_rows(read_jsonl(whole, name), recipe)
    elif len(columns) > 1:
        raise DataError(f"{name}: the prompt has the columns {', '.join(columns)}: give jsonl or csv with all of them")
    elif columns[0] in (field.strip(b'"').decode(errors="replace") for field in re.split(rb"[,;\t|]", first.strip())):
        raise DataError(
            f"{name} begins with the name of the column {columns[0]!r}, as a table does: give it as a file whose name "
            f"ends in {', '.join(SUFFIXES)}, or leave that line out where it is text"
        )
    else:
        for text in _texts(whole, name):
            yield Given({columns[0]: text if recipe.data.input else as_text([Turn("user", text)])}, None, name)


def read_given_file(path: Path, recipe: Recipe, notify: Callable[[str], None]) -> Iterator[Given]:
    """Each input of a file: rows of a csv, tsv, json, jsonl or parquet file, or else text. See `read_given`.

    The file may be compressed. Its encoding and delimiter are found, and `notify` is told them where they are not the
    usual ones. Raises DataError.
    """
    if path.exists() and not path.is_file():  # a pipe can be read once
        with open_bytes(path) as file:
            yield from read_given(file, path.name, recipe)
        return
    kind = inner_suffix(path)
    data = recipe.data
    given = GivenFormat(data.delimiter if data.delimiter not in DELIMITERS else None, None, data.quoted_tsv)
    form = Format() if kind == ".parquet" else find_format(path, given)
    if form.encoding == FALLBACK and data.encoding is not None:
        given = replace(given, encoding=data.encoding)
        form = find_format(path, given)
    if form.notice is not None:
        notify(form.notice)
    if kind in SUFFIXES:
        empty = True
        for one in _of_rows(read_rows(path, given), recipe):
            empty = False
            yield one
        if empty:
            raise DataError(f"{path.name} has no rows")
        return
    with open_bytes(path) as file:
        if b"\0" in file.read(4096) and form.encoding == UTF8:
            raise DataError(f"{path}: no reader for {kind or 'such a file'!r}; text, or {', '.join(SUFFIXES)}")
    with open_bytes(path) as file:
        yield from read_given(utf8_lines(file, form.encoding), path.name, recipe)


def _of_rows(rows: Iterable[Row], recipe: Recipe) -> Iterator[Given]:
    if recipe.data.input is None:
        return _conversations(rows, recipe.data.messages)
    assert recipe.prompt is not None
    return _checked(rows, Prompt(recipe.prompt).columns, recipe.data.input)


def _conversations(rows: Iterable[Row], messages: str | None) -> Iterator[Given]:
    layout = None
    for row in rows:
        if row.unreadable:
            raise DataError(f"{row.where} {row.unreadable}")
        layout = layout or find_layout(row.columns, messages, answered=False)
        try:
            yield Given({MESSAGES: question_of(row.columns, layout)}, row.columns, row.where)
        except ValueError as error:
            raise DataError(f"{row.where} {error}") from None


def _checked(rows: Iterable[Row], columns: list[str], input: str) -> Iterator[Given]:
    for row in rows:
        if row.unreadable:
            raise DataError(f"{row.where} {row.unreadable}")
        for column in columns:
            value = row.columns.get(column)
            if value is None and column != input:
                continue
            if not isinstance(value, str) or (column == input and not value.strip()):
                there = "" if column in row.columns else f"; its columns are {', '.join(map(str, row.columns))}"
                raise DataError(f"{row.where} has no text in {column!r}{there}")
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
