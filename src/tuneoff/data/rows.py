"""Files → rows, each with the place it stands at, so that an error can name file and line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import IO, Any

from tuneoff.data.compression import DAMAGED, OPENERS, inner_suffix, open_bytes
from tuneoff.data.formats import (
    AS_FOUND,
    DELIMITERS,
    EXCEL_MARK,
    UTF8,
    Format,
    GivenFormat,
    delimiter_name,
    find_format,
)
from tuneoff.errors import DataError, first_line

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row as read: its columns, where it stands, and why it could not be read (`columns` is then empty).

    It takes several `lines` of a file whose fields may be quoted where one of them holds ends of lines. It is read
    `again` where it is made of the same row as the one before it.
    """

    columns: dict[str, Any]
    where: str
    unreadable: str | None = None
    lines: int = 1
    again: bool = False


def read_rows(path: Path, given: GivenFormat = AS_FOUND) -> Iterator[Row]:
    """The rows of one file (jsonl, json, csv, tsv or parquet), which may be compressed.

    Encoding and delimiter are those `given`, or what the file seems to have (`formats.find_format`). A line of a table
    with tabs in a .tsv file is a row, whose fields are what stands between its tabs; a quotation mark is a character
    like any other, unless `given.quoted_tsv`. In all other tables a field between quotation marks may hold delimiters
    and ends of lines (RFC 4180).

    A row that cannot be read is yielded as `unreadable`; a file that cannot be read, or that has two columns of one
    name, raises DataError.
    """
    kind = inner_suffix(path)
    if kind not in SUFFIXES:
        raise DataError(
            f"{path}: no reader for {kind or 'a file without suffix'!r}; the choices are {', '.join(SUFFIXES)}"
        )
    if kind == ".parquet":
        yield from _parquet(path)
        return
    form = find_format(path, given)
    try:
        with open_bytes(path) as file:
            if form.delimiter is not None:
                yield from _separated(file, path.name, form)
            elif kind == ".jsonl":
                yield from read_jsonl(utf8_lines(file, form.encoding), path.name)
            else:
                yield from _json(b"".join(utf8_lines(file, form.encoding)), path.name)
    except UnicodeError as error:
        raise DataError(f"{path} is not {form.encoding}: {error}") from None
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from None


def utf8_lines(file: IO[bytes], encoding: str) -> Iterator[bytes]:
    """The lines of a file in UTF-8, whatever its encoding. Raises UnicodeError for another than its own."""
    if encoding == UTF8:
        yield from file
        return
    for line in io.TextIOWrapper(file, encoding=encoding, newline="\n"):
        yield line.encode("utf-8", "surrogatepass")


def read_jsonl(file: Iterable[bytes], name: str) -> Iterator[Row]:
    """The rows of jsonl's lines as they come; `name` is what errors call the file."""
    for number, line in enumerate(file, start=1):
        where = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            value = _parsed(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield Row({}, where, f"is not UTF-8 (byte {error.start} of the line)")
        except (ValueError, RecursionError) as error:
            yield Row({}, where, f"is not JSON ({error})")
        else:
            yield _object(value, where)


def _json(content: bytes, name: str) -> Iterator[Row]:
    if not content.strip():
        raise DataError(f"{name} is empty")
    try:
        values = _parsed(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not JSON ({error}). For one object a line, name it .jsonl") from None
    if isinstance(values, dict) and isinstance(values.get("data"), list):
        values = values["data"]
    if not isinstance(values, list):
        raise DataError(f"{name}: a JSON file holds a list of objects, or {{'data': [...]}}")
    for number, value in enumerate(values):
        yield _object(value, f"{name}: row {number}")


def _parsed(text: str) -> Any:
    """JSON in which no object has a key twice. Raises ValueError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"an object has the key {_repeated(key for key, _ in pairs)!r} twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def _repeated(names: Iterable[str]) -> str | None:
    """The first name that comes twice."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        return Row({}, where, f"is no JSON object, but {type(value).__name__}")
    return Row(value, where)


def _separated(file: IO[bytes], name: str, form: Format) -> Iterator[Row]:
    assert form.delimiter is not None
    csv.field_size_limit(sys.maxsize)
    # Bytes that are no text in this encoding become surrogates, so that the row they stand in can be named.
    text = io.TextIOWrapper(file, encoding=form.encoding, errors="surrogateescape", newline="")
    head = text.readline()
    before = 0
    while EXCEL_MARK.match(head) or (head and not head.strip()):
        head, before = text.readline(), before + 1
    if not head:
        raise DataError(f"{name} is empty: its first line names the columns")
    _require_delimiter(head, name, form.delimiter)
    lines = chain([head], text)
    if form.quoted:
        reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_NONE, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{name}:{1 + before}: not CSV ({error})") from None
    twice = _repeated(header)
    if twice is not None:
        raise DataError(f"{name}: the header has the column {twice!r} twice")
    while True:
        begun = reader.line_num + before + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(f"{name}:{begun}: a quotation mark that begins there is never closed") from None
            yield Row({}, f"{name}:{reader.line_num + before}", f"is not CSV ({error})")
            continue
        if values is None:
            return
        if values:
            taken = 1 + sum(value.count("\n") for value in values)
            yield _fields(values, header, f"{name}:{reader.line_num + before}", taken, form.encoding)


def _require_delimiter(head: str, name: str, delimiter: str) -> None:
    """Raise DataError where a header has another delimiter than the recipe says."""
    other = next((mark for mark in DELIMITERS if mark in head), None)
    if delimiter not in head and other is not None:
        called, found = delimiter_name(delimiter), delimiter_name(other)
        raise DataError(f"{name}: its header has {found} between the columns, and data.delimiter is {called}")


def _fields(values: list[str], header: list[str], where: str, lines: int, encoding: str) -> Row:
    if len(values) > len(header):
        return Row({}, where, f"has more fields than the header's {len(header)}")
    if any("\udc80" <= character <= "\udcff" for value in values for character in value):
        return Row({}, where, f"is not {'UTF-8' if encoding == UTF8 else encoding}")
    return Row(dict(zip_longest(header, values)), where, lines=lines)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with open_bytes(path) as opened:
            content = pyarrow.BufferReader(opened.read()) if path.suffix.lower() in OPENERS else path
        file = pyarrow.parquet.ParquetFile(content)
        twice = _repeated(file.schema_arrow.names)
        if twice is not None:
            raise DataError(f"{path}: the column {twice!r} is there twice")
        for batch in file.iter_batches():
            for columns in batch.to_pylist():
                yield Row(columns, f"{path.name}: row {number}")
                number += 1
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not parquet ({first_line(error)})") from None
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from None
