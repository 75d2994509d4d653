"""A source → the rows of a split: a hub name, a folder in the hub's layout, files, or `builtin:NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tuneoff.builtin import located
from tuneoff.data.rows import Row, read_rows
from tuneoff.errors import DataError, first_line, nearest
from tuneoff.recipe.data import DataSpec


@dataclass(frozen=True)
class Source:
    """Where a data set's splits are: local files by split, or a data set of the hub at a revision."""

    files: dict[str, list[Path]] | None
    hub_name: str | None = None
    config: str | None = None
    revision: str | None = None
    quoted_tsv: bool = False

    @property
    def splits(self) -> list[str]:
        """The names of the source's own splits. Raises DataError where a data set of the hub cannot be loaded."""
        return list(self._hub_splits if self.files is None else self.files)

    def rows(self, split: str) -> Iterator[Row]:
        """Every row of `split`. Raises DataError where there is no such split, or it cannot be read."""
        if split not in self.splits:
            hint = f"{nearest(split, self.splits)} Name them in data.splits (validation: null where there is none)"
            raise DataError(f"the data has no split {split!r}; {hint}")
        if self.files is None:
            for number, columns in enumerate(self._hub_splits[split]):
                yield Row(dict(columns), f"{self.hub_name}/{split}: row {number}")
            return
        for path in self.files[split]:
            yield from read_rows(path, quoted_tsv=self.quoted_tsv)

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
    """Find the source of a recipe's data. Raises DataError where there is none."""
    if isinstance(spec.source, dict):
        files = {_split_name(spec, key): [_existing(Path(path))] for key, path in spec.source.items()}
        return Source(files, quoted_tsv=spec.quoted_tsv)
    path = Path(located(spec.source))
    if path.is_dir():
        return Source(_folder(path), quoted_tsv=spec.quoted_tsv)
    if path.is_file():
        raise DataError(
            f"{path} is one file; give the folder that holds the splits, "
            "or files by split: {train: a.jsonl, test: b.jsonl}"
        )
    if path.is_absolute() or spec.source.startswith(".") or spec.source.count("/") > 1:
        raise DataError(f"no such folder or file: {path}")
    return Source(None, spec.source, spec.config, _pinned(spec.source, spec.revision))


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
