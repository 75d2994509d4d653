"""The file that `tuneoff generate --out` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tuneoff.errors import DataError, WriteError, nearest
from tuneoff.folder import write_whole
from tuneoff.use.rows import Given

KINDS = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")


def require_writable(path: Path) -> None:
    """Raise WriteError where something is there already, DataError for a kind of file that is not written."""
    if path.exists():
        raise WriteError(f"{path} exists already: name another file, or move it away")
    if path.suffix.lower() not in KINDS:
        raise DataError(f"{path}: nothing is written as {path.suffix!r}; {nearest(path.suffix, KINDS)}")


def write_predictions(path: Path, given: Sequence[Given], predictions: Sequence[str]) -> None:
    """Write the rows with a column `prediction`; a .txt file has the predictions, each in a line. Raises WriteError."""
    if path.suffix.lower() == ".txt":
        write_whole(path, "".join(" ".join(text.split()) + "\n" for text in predictions))
        return
    rows = [{**(one.columns or one.asked), "prediction": text} for one, text in zip(given, predictions, strict=True)]
    if path.suffix.lower() == ".jsonl":
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))
        return
    import pandas

    table = pandas.DataFrame(rows)
    if path.suffix.lower() == ".parquet":
        write_whole(path, table.to_parquet(index=False))
    else:
        write_whole(path, table.to_csv(index=False, sep="," if path.suffix.lower() == ".csv" else "\t"))
