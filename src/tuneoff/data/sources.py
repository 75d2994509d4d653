"""A source → the rows of a split: a hub name, a folder in the hub's layout, files, or `builtin:NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from tuneoff.builtin import located
from tuneoff.data.compression import OPENERS, inner_suffix
from tuneoff.data.formats import AS_FOUND, GivenFormat, find_format
from tuneoff.data.parting import Parting
from tuneoff.data.rows import SUFFIXES, Row, read_rows
from tuneoff.errors import DataError, first_line, nearest
from tuneoff.recipe.data import DataSpec


@dataclass(frozen=True)
class Source:
    """Where a data set's splits are: local files by split, or a data set of the hub at a revision.

    `parting` takes parts out of one of them.
    """

    files: dict[str, list[Path]] | None
    hub_name: str | None = None
    config: str | None = None
    revision: str | None = None
    given: GivenFormat = AS_FOUND
    parting: Parting | None = None

    @property
    def splits(self) -> list[str]:
        """The names of the splits. Raises DataError where a data set of the hub cannot be loaded."""
        return list(dict.fromkeys([*self._own_splits, *(self.parting.names if self.parting is not None else ())]))

    @property
    def notices(self) -> list[str]:
        """What was found of the files' formats, a sentence each. Raises DataError."""
        files = dict.fromkeys(file for files in (self.files or {}).values() for file in files)
        texts = (file for file in files if inner_suffix(file) != ".parquet")
        found = [find_format(file, self.given).notice for file in texts]
        return [f"{notice}. data.encoding and data.delimiter set others" for notice in found if notice is not None]

    def rows(self, split: str) -> Iterator[Row]:
        """Every row of `split`. Raises DataError where there is no such split, or it cannot be read."""
        if self.parting is None or split not in (self.parting.of, *self.parting.names):
            yield from self._own_rows(split)
            return
        for row, part in zip(self._own_rows(self.parting.of), self._parts, strict=True):
            if part == split:
                yield row

    @cached_property
    def _parts(self) -> list[str]:
        assert self.parting is not None
        twice = [name for name in self.parting.names if name in self._own_splits]
        if twice:
            raise DataError(f"the data have a split {twice[0]!r} of their own: leave it out of data.split")
        return self.parting.parts(self._own_rows(self.parting.of))

    @property
    def _own_splits(self) -> list[str]:
        return list(self._hub_splits if self.files is None else self.files)

    def _own_rows(self, split: str) -> Iterator[Row]:
        if split not in self._own_splits:
            hint = f"{nearest(split, self.splits)} Name them in data.splits (validation: null where there is none)"
            raise DataError(f"the data has no split {split!r}; {hint}")
        if self.files is None:
            for number, columns in enumerate(self._hub_splits[split]):
                yield Row(dict(columns), f"{self.hub_name}/{split}: row {number}")
            return
        for path in self.files[split]:
            yield from read_rows(path, self.given)

    @cached_property
    def _hub_splits(self) -> Mapping[str, Any]:
        """Every split of the data set of the hub; one split alone is no less to download."""
        from datasets import load_dataset

        try:
            splits: Mapping[str, Any] = load_dataset(self.hub_name, self.config, revision=self.revision)
        except Exception as error:  # the hub raises its own tree, requests', and ValueError
            raise DataError(f"cannot load {self.hub_name!r}: {first_line(error)}") from error
        return splits


def open_source(spec: DataSpec) -> Source:
    """Find the source of a recipe's data, as it is before `data.split`. Raises DataError where there is none."""
    given = GivenFormat(spec.delimiter, spec.encoding, spec.quoted_tsv)
    if isinstance(spec.source, dict):
        files = {_split_name(spec, key): [_existing(Path(path))] for key, path in spec.source.items()}
        return Source(files, given=given)
    path = Path(located(spec.source))
    if path.is_dir():
        return Source(_folder(path), given=given)
    if path.is_file():
        if spec.split is None:
            raise DataError(
                f"{path} is one file: set data.split to take test examples out of it, e.g. {{validation: 0.1, test: "
                "0.1}; or give the folder that holds the splits, or files by split: {train: a.jsonl, test: b.jsonl}"
            )
        return Source({spec.splits.train: [path]}, given=given)
    if path.is_absolute() or spec.source.startswith(".") or spec.source.count("/") > 1:
        raise DataError(f"no such folder or file: {path}")
    if path.suffix.lower() in (*SUFFIXES, *OPENERS):
        here = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"no such file: {path}{_near(path.name, here)}")
    return Source(None, spec.source, spec.config, _pinned(spec.source, spec.revision))


def _near(name: str, others: list[str]) -> str:
    found = get_close_matches(name, others, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _split_name(spec: DataSpec, key: str) -> str:
    return str(getattr(spec.splits, key) or key)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    return path


def _folder(path: Path) -> dict[str, list[Path]]:
    from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

    try:
        patterns = get_data_patterns(str(path))
        found = DataFilesDict.from_patterns(patterns, base_path=str(path))
    except (EmptyDatasetError, FileNotFoundError):
        raise DataError(f"{path} holds no data files (train.jsonl, test.csv, data/train-*.parquet, …)") from None
    return {str(split): [Path(file) for file in files] for split, files in found.items()}


def _pinned(name: str, revision: str | None) -> str | None:
    """The commit that `revision` stands for now, where the hub can be asked; it is not asked about a whole commit."""
    from huggingface_hub import HfApi

    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except Exception:  # offline or unknown: load_dataset takes it from its cache, or says what is wrong
        return revision
