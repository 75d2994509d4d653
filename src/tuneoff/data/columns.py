"""The files and columns that a recipe names, checked on the first rows of each file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tuneoff.builtin import located
from tuneoff.data.conversations import find_layout
from tuneoff.data.model_folder import near_name
from tuneoff.data.rows import SUFFIXES, Row
from tuneoff.data.sources import open_source
from tuneoff.errors import DataError, Problem, TuneoffError, nearest
from tuneoff.recipe.data import DataSpec
from tuneoff.recipe.places import is_path
from tuneoff.recipe.schema import Recipe, TokenizerSpec, prompt_columns

ROWS = 200  # that are read of a file
FILES = 50  # that are read of a folder
COLUMNS = 12  # that a message names
TABLES = {".csv", ".tsv", ".parquet"}  # whose first row has every column


@dataclass(frozen=True)
class Head:
    """The first rows of a file or folder: their columns, and whether these are all that there are."""

    name: str
    columns: list[str]
    first: Row
    complete: bool


def check_data(recipe: Recipe) -> list[Problem]:
    """What is wrong with the local files of a recipe's data: one that is missing, empty, or without a named column.

    A data set of the hub is not asked for.
    """
    data = recipe.data
    if isinstance(data.source, dict):
        problems = [
            Problem(("data", "source", split), f"no such file: {path}{near_name(Path(path))}")
            for split, path in data.source.items()
            if not Path(path).is_file()
        ]
        unread = _unread(recipe)
        files = {split: Path(path) for split, path in data.source.items() if split not in unread}
        return problems or _check_files(recipe, {("data", "source", split): path for split, path in files.items()})
    try:
        place = Path(located(data.source))
        if place.is_file():
            open_source(data)  # which refuses a file that is not said to be split
    except TuneoffError as error:
        return [Problem(("data", "source"), str(error))]
    if place.is_dir():
        return _check_folder(recipe, place)
    if place.is_file():
        return _check_files(recipe, {("data", "source"): place})
    if is_path(data.source):
        return [Problem(("data", "source"), f"no such folder or file: {place}{near_name(place)}")]
    return []


def _unread(recipe: Recipe) -> set[str]:
    """The splits that the recipe has no use for."""
    trains = any(arm.trains for arm in recipe.arms.values()) or isinstance(recipe.model.tokenizer, TokenizerSpec)
    return {*(() if trains else ("train",)), *(("test",) if recipe.evaluation.split != "test" else ())}


def _check_files(recipe: Recipe, files: dict[tuple[str, ...], Path]) -> list[Problem]:
    """The problems of each file, what several have in common once."""
    problems: dict[tuple[str, ...], Problem] = {}
    for key, path in files.items():
        try:
            head = _head(recipe.data, path)
            found = _check_columns(recipe, head) if head is not None else []
        except DataError as error:
            found = [Problem(key, str(error))]
        for problem in found:
            problems.setdefault((*problem.path, problem.message.partition(" in ")[0]), problem)
    return list(problems.values())


def _check_folder(recipe: Recipe, folder: Path) -> list[Problem]:
    """A column must be in one of the folder's files: which of them are a split's is told when they are read."""
    files = [path for path in sorted(folder.rglob("*")) if set(path.suffixes) & set(SUFFIXES) and path.is_file()]
    heads = [head for path in files[:FILES] if (head := _readable_head(recipe.data, path)) is not None]
    if not heads or len(files) > FILES:
        return []
    columns = list(dict.fromkeys(name for head in heads for name in head.columns))
    all_complete = all(head.complete for head in heads)
    return _check_columns(recipe, Head(f"the files in {folder}", columns, heads[0].first, all_complete))


def _readable_head(data: DataSpec, path: Path) -> Head | None:
    try:
        return _head(data, path)
    except DataError:  # a file that is no part of the data, perhaps
        return None


def _head(data: DataSpec, path: Path) -> Head | None:
    """The first rows of a file; None where none of them can be read. Raises DataError, also for a file without rows."""
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty")
    source = open_source(data.model_copy(update={"source": {"train": str(path)}, "split": None}))
    rows = list(islice(source.rows(data.splits.train), ROWS + 1))
    if not rows:
        raise DataError(f"{path.name} has no rows")
    readable = [row for row in rows if row.unreadable is None]
    if not readable:
        return None
    columns = list(dict.fromkeys(str(name) for row in readable for name in row.columns))
    complete = len(rows) <= ROWS or bool(TABLES & set(path.suffixes))
    return Head(path.name, columns, readable[0], complete)


def _check_columns(recipe: Recipe, head: Head) -> list[Problem]:
    data = recipe.data
    if data.has_conversations:
        return _check_layout(data, head)
    problems = [
        Problem(("data", key), f"no column {name!r} in {head.name}; {_columns_hint(name, head.columns)}")
        for key, name in (("input", data.input), ("target", data.target))
        if name is not None and name not in head.columns
    ]
    if head.complete:
        others = dict.fromkeys(name for name in _placeholders(recipe) if name not in (data.input, data.target))
        problems += [
            Problem(("prompt",), f"{{{name}}}: no column {name!r} in {head.name}; {_columns_hint(name, head.columns)}")
            for name in others
            if name not in head.columns
        ]
    return problems


def _check_layout(data: DataSpec, head: Head) -> list[Problem]:
    try:
        find_layout(head.first.columns, data.messages)
    except DataError as error:
        return [Problem(("data", "messages") if data.messages is not None else ("data",), f"{head.name}: {error}")]
    return []


def _placeholders(recipe: Recipe) -> Iterator[str]:
    if recipe.prompt is not None:
        yield from prompt_columns(recipe.prompt)


def _columns_hint(name: str, columns: Iterable[str]) -> str:
    names = list(columns)
    shown = ", ".join(names[:COLUMNS]) + (", …" if len(names) > COLUMNS else "")
    hint = nearest(name, names)
    return f"{hint} Its columns: {shown}" if hint.startswith("did you mean") else f"its columns: {shown}"
