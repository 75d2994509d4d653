"""Rows → examples: checked, prompted, and with all references of one prompt together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from tuneoff.data.conversations import Turn, as_turns, shown
from tuneoff.data.prompt import Prompt
from tuneoff.data.rows import Row
from tuneoff.errors import DataError, nearest

WHERE = "\0where"  # beside a row's columns: where it stands
GROUP = "\0group"  # and what group it belongs to
FEW = 0.05  # of the rows: so many that take several lines may be a mistake


@dataclass(frozen=True)
class Example:
    """One prompt, and the references that go with it (one, in training).

    Attributes:
        id: The first row's column `id`, or else the example's number.
        input: What a person is shown: the input column, all of a prompt that has other columns, or a conversation.
        prompt: What the model is given; of a conversation its turns (`conversations.as_text`).
        references: What it should write.
        columns: The texts that stand in the prompt, by their columns.
        turns: Of a conversation, all that was said before the answer.
        where: The place of its first row, for people.
        group: What marks the examples that it depends on; None where the recipe names no column for it.
    """

    id: str
    input: str
    prompt: str
    references: tuple[str, ...]
    columns: dict[str, str] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    where: str = ""
    group: str | None = None

    @property
    def texts(self) -> list[str]:
        """The data's own texts that the model is shown."""
        return [turn.content for turn in self.turns] if self.turns else list(self.columns.values())


@dataclass(frozen=True)
class Examples:
    """The examples of one split, and what was counted while they were read.

    Attributes:
        examples: The examples.
        rows: How many rows were read.
        skipped_rows: How many of them were left out.
        duplicate_rows: How many were there before.
        skipped_places: Where those stand that were left out, and what is wrong with each.
        long_rows: Where those stand that take several lines of their file, and how many: `a.csv:12 (4 lines)`.
        layout: How rows hold conversations, for people; None where they are texts.
    """

    examples: list[Example]
    rows: int
    skipped_rows: int
    duplicate_rows: int
    skipped_places: list[str] = field(default_factory=list)
    long_rows: list[str] = field(default_factory=list)
    layout: str | None = None

    @property
    def warnings(self) -> list[str]:
        """What a user should know of the reading, a sentence each."""
        found = []
        if self.skipped_rows:
            places = "; ".join(self.skipped_places[:3]) + ("; …" if self.skipped_rows > 3 else "")
            found.append(f"{self.skipped_rows} bad rows left out ({places})")
        if 0 < len(self.long_rows) <= max(1, FEW * self.rows):  # where most do, their fields have ends of lines
            found.append(
                f"{len(self.long_rows)} of {self.rows} rows take several lines of their file, the first to end at "
                f"{self.long_rows[0]}. Is it meant so? A quotation mark that is never closed takes other rows in."
            )
        return found

    @property
    def groups(self) -> int | None:
        """How many groups the examples come in; None where the recipe names no column for them."""
        labels = {example.group for example in self.examples}
        return None if None in labels else len(labels)

    @property
    def content_sha256(self) -> str:
        """The hash of what the model is shown and scored against."""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(json.dumps([example.prompt, *example.references]).encode())
        return digest.hexdigest()


def read_examples(
    rows: Iterable[Row],
    *,
    input: str,
    target: str,
    prompt: Prompt | None,
    group_references: bool,
    limit: int | None,
    skip_bad_rows: bool,
    group: str | None = None,
) -> Examples:
    """The first `limit` examples of `rows` (all with None).

    With `group_references`, rows of the same prompt are references of one example, wherever they stand; without, each
    row is an example. A bad row (unreadable, a column that is no text, or no input or target) raises DataError with its
    place, or is counted. Other columns of the prompt may be empty, null or missing in a row. Without a prompt, `input`
    holds conversations (`conversations.as_text`). `group` is the column that marks dependent examples; a row without a
    value in it is a group of its own.
    """
    reader = _Reader(input, target, prompt, skip_bad_rows, group)
    if group_references:
        groups: dict[str, list[dict[str, str]]] = {}
        for columns in reader.good(rows):
            filled = reader.prompt.fill(columns)
            if filled in groups or limit is None or len(groups) < limit:
                groups.setdefault(filled, []).append(columns)
        reader.require_columns()
        examples = [reader.example(number, group) for number, group in enumerate(groups.values())]
    else:
        examples = [
            reader.example(number, [columns]) for number, columns in enumerate(islice(reader.good(rows), limit))
        ]
        reader.require_columns()
    if not examples:
        raise DataError("the split has no usable row")
    return Examples(examples, reader.rows, len(reader.skipped), reader.duplicates, reader.skipped, reader.long)


def group_of(row: Row, column: str) -> str | None:
    """What `column` says of a row's group, as text; None where it says nothing. Numbers are groups, too."""
    value = row.columns.get(column)
    return None if value is None or value == "" else str(value)


class _Reader:
    """Checks rows one by one and counts what it saw."""

    def __init__(self, input: str, target: str, prompt: Prompt | None, skip_bad_rows: bool, group: str | None) -> None:
        self._group = group
        self._input, self._target, self._conversations = input, target, prompt is None
        self.prompt = Prompt(f"{{{input}}}") if prompt is None else prompt
        self._used = list(dict.fromkeys([input, target, *self.prompt.columns]))
        self._alone = set(self.prompt.columns) == {input}
        self._skip = skip_bad_rows
        self._seen: set[bytes] = set()
        self._known: set[str] = set()  # the columns that some row has
        self.rows = 0
        self.duplicates = 0
        self.skipped: list[str] = []
        self.long: list[str] = []

    def good(self, rows: Iterable[Row]) -> Iterator[dict[str, str]]:
        for row in rows:
            self.rows += not row.again
            if row.lines > 1 and not row.again:
                self.long.append(f"{row.where} ({row.lines} lines)")
            problem = row.unreadable or self._problem(row)
            if problem is None:
                self._count_duplicate(row)
                yield {
                    WHERE: row.where,
                    **{k: v for k, v in row.columns.items() if k == "id"},
                    **{k: row.columns.get(k) or "" for k in self._used},
                    **({} if self._group is None else {GROUP: group_of(row, self._group) or row.where}),
                }
            elif self._skip:
                self.skipped.append(f"{row.where} {problem}")
            else:
                raise DataError(
                    f"{row.where} {problem}. Fix the row, or set data.on_bad_row: skip "
                    "to leave such rows out and count them"
                )

    def require_columns(self) -> None:
        """Raise DataError where the prompt has a column that no row has had."""
        for name in [*self._used, *([self._group] if self._group is not None else [])]:
            if self._known and name not in self._known:
                raise DataError(f"the data has no column {name!r}; {nearest(name, self._known)}")

    def example(self, number: int, rows: list[dict[str, str]]) -> Example:
        first = rows[0]
        prompt = self.prompt.fill(first)
        turns = as_turns(prompt) if self._conversations else []
        return Example(
            id=str(first.get("id", number)),
            input=shown(turns) if turns else first[self._input] if self._alone else prompt,
            prompt=prompt,
            references=tuple(row[self._target] for row in rows),
            columns={name: first[name] for name in self.prompt.columns},
            turns=tuple(turns),
            where=first[WHERE],
            group=first.get(GROUP),
        )

    def _problem(self, row: Row) -> str | None:
        self._known.update(row.columns)
        for name in self._used:
            wanted = name in (self._input, self._target)
            if wanted and name not in row.columns and self.rows == 1:  # a wrong name in the recipe, not a bad row
                raise DataError(f"the data has no column {name!r}; {nearest(name, row.columns)}")
            value = row.columns.get(name)
            if value is None:
                if wanted:
                    return f"has null in {name!r}" if name in row.columns else f"has no {name!r}"
                continue
            if not isinstance(value, str):
                return f"has {type(value).__name__} in {name!r}, where text belongs"
            if not value.strip() and wanted:
                return f"is empty in {name!r}"
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"has a lone surrogate in {name!r}, which is no Unicode text"
        return None

    def _count_duplicate(self, row: Row) -> None:
        key = hashlib.sha256(json.dumps([row.columns.get(k) for k in self._used]).encode()).digest()
        self.duplicates += key in self._seen and not row.again
        self._seen.add(key)
