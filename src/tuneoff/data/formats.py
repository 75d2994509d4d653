"""How a text file is written: its encoding, and the delimiter of a table. Found where no recipe gives them."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from pathlib import Path

from tuneoff.data.compression import DAMAGED, inner_suffix, open_bytes
from tuneoff.errors import DataError

UTF8 = "utf-8-sig"  # UTF-8, with or without a byte order mark
FALLBACK = "cp1252"  # Western European Windows, which Excel saves a csv in
USUAL = {".csv": ",", ".tsv": "\t"}
DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT = 1 << 26  # bytes of a file's start that its encoding is found from
LINES_FOR_DELIMITER = 200
EXCEL_MARK = re.compile(r"""^"?sep=(.)"?\s*$""", re.IGNORECASE)  # a first line of Excel's that is no row


@dataclass(frozen=True)
class GivenFormat:
    """What a recipe says of its files; None is to be found."""

    delimiter: str | None = None
    encoding: str | None = None
    quoted_tsv: bool = False


AS_FOUND = GivenFormat()


@dataclass(frozen=True)
class Format:
    """How one file is read.

    Attributes:
        encoding: A codec's name.
        delimiter: The character between the columns; None where the file is no table.
        quoted: Whether fields may stand between quotation marks.
        notice: What was found and is not what such a file usually has, for people; None where it is as usual.
    """

    encoding: str = UTF8
    delimiter: str | None = None
    quoted: bool = True
    notice: str | None = None


def find_format(path: Path, given: GivenFormat) -> Format:
    """The format of a text file (csv, tsv, json, jsonl or plain text). Raises DataError where it cannot be read."""
    kind = inner_suffix(path)
    try:
        with open_bytes(path) as file:
            start = file.read(LOOKED_AT)
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from None
    encoding = given.encoding or find_encoding(start)
    found = []
    if given.encoding is None and encoding != UTF8:
        found.append(f"as {encoding}{_sample(start, encoding)}")
    if kind not in USUAL:
        return Format(encoding, notice=_notice(path, found))
    usual = USUAL[kind]
    text = start[: 1 << 20].decode(encoding, errors="replace").removeprefix("\ufeff")
    delimiter = given.delimiter or find_delimiter(text, usual)
    if given.delimiter is None and delimiter != usual:
        found.append(f"with {delimiter_name(delimiter)} between its columns")
    quoted = kind == ".csv" or given.quoted_tsv or delimiter != "\t"
    return Format(encoding, delimiter, quoted, _notice(path, found))


def find_encoding(start: bytes) -> str:
    """The encoding of a text, from its first bytes: by its byte order mark, or UTF-8, or else Windows' cp1252.

    A text that has more characters of several bytes in UTF-8 than bytes that are none is UTF-8 with damaged rows.
    """
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    even, odd = start[:4096:2].count(0), start[1:4096:2].count(0)
    if max(even, odd) > len(start[:4096]) // 4:  # without a mark: every other byte of Latin text is 0
        return "utf-16-le" if odd > even else "utf-16-be"
    return UTF8 if _is_utf8(start) or not _decodes(start, FALLBACK) else FALLBACK


def _is_utf8(start: bytes) -> bool:
    if _decodes(start, "utf-8"):
        return True
    text = start.decode(errors="surrogateescape")
    damaged = len(re.findall("[\udc80-\udcff]", text))
    return len(re.findall("[^\x00-\x7f\udc80-\udcff]", text)) > damaged


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def find_delimiter(text: str, usual: str) -> str:
    """What separates the columns of a table that begins with `text`: what gives most rows the header's columns.

    It is the `usual` one where others do no better.
    """
    told = EXCEL_MARK.match(text.split("\n", 1)[0])
    if told is not None:
        return told[1]
    lines = text.splitlines(keepends=True)[:LINES_FOR_DELIMITER]
    return max((usual, *DELIMITERS), key=lambda mark: _fit("".join(lines), mark))


def _fit(text: str, delimiter: str) -> float:
    """The share of rows with as many fields as the header; 0 where that has one field."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return 0.0
    if not rows or len(rows[0]) < 2:
        return 0.0
    whole = rows[1:-1] or rows[1:]  # the last may be cut off
    return sum(len(row) == len(rows[0]) for row in whole) / len(whole) if whole else 1.0


def delimiter_name(delimiter: str) -> str:
    """The delimiter, for people."""
    return "a tab" if delimiter == "\t" else repr(delimiter)


def _notice(path: Path, found: list[str]) -> str | None:
    return f"{path.name} is read {' and '.join(found)}" if found else None


def _sample(start: bytes, encoding: str) -> str:
    """A word that looks otherwise in another encoding, so that a person can judge."""
    words = re.findall(r"\w*[^\W\x00-\x7f]\w*", start[: 1 << 20].decode(encoding, errors="ignore"))
    return f" (as in {words[0][:30]!r})" if words else ""
