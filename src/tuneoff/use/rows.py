"""What `tuneoff generate` reads: inputs as plain text, or jsonl with the data's columns."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from tuneoff.data.rows import read_jsonl
from tuneoff.errors import DataError


@dataclass(frozen=True)
class Given:
    """One input: its columns, and whether they came as JSON."""

    columns: dict[str, str]
    as_json: bool

    def line(self, prediction: str) -> str:
        """What is written for it: the object with its prediction, or the text in one line."""
        if self.as_json:
            return json.dumps({**self.columns, "prediction": prediction}, ensure_ascii=False)
        return " ".join(prediction.split())


def read_given(lines: Iterable[bytes], name: str, columns: Sequence[str], input: str) -> Iterator[Given]:
    """Each input, as lines come: jsonl where the first begins with a brace, else text.

    Text holds one input, or several with an empty line between them. `columns` are the prompt's; those besides `input`
    may be empty, null or missing in a row. Raises DataError, with the line, for what is neither, for a row without text
    in `input`, and for a column that is no text.
    """
    stream = iter(lines)
    first = next((line for line in stream if line.strip()), None)
    if first is None:
        raise DataError(f"{name} is empty: an input as text, or jsonl with {', '.join(columns)}")
    whole = chain([first], stream)
    if first.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
        yield from (Given(row, True) for row in _checked(whole, name, columns, input))
    elif len(columns) > 1:
        raise DataError(f"{name}: the prompt has the columns {', '.join(columns)}: give jsonl with all of them")
    else:
        yield from (Given({columns[0]: text}, False) for text in _texts(whole, name))


def _checked(lines: Iterable[bytes], name: str, columns: Sequence[str], input: str) -> Iterator[dict[str, str]]:
    for row in read_jsonl(lines, name):
        if row.unreadable:
            raise DataError(f"{row.where} {row.unreadable}")
        for column in columns:
            value = row.columns.get(column)
            if value is None and column != input:
                continue
            if not isinstance(value, str) or (column == input and not value.strip()):
                raise DataError(f"{row.where} has no text in {column!r}")
        yield row.columns


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
