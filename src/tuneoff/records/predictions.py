"""What an arm wrote for each test dialogue, with its scores."""

from __future__ import annotations

from pathlib import Path

from tuneoff.errors import DamagedFileError
from tuneoff.records.base import Record, read_text


class Prediction(Record):
    """One test dialogue: its references, what the arm wrote, and ROUGE against each reference."""

    id: str
    input: str
    references: list[str]
    prediction: str
    truncated: bool
    rouge1: list[float]
    rouge2: list[float]
    rougeL: list[float]
    rougeLsum: list[float]


def read_predictions(path: Path, scored: int | None = None) -> list[Prediction]:
    """Every prediction of a trial, in the order of the data. `scored` is how many the trial's result speaks of.

    Raises DamagedFileError, also where there are not so many.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)
    found = [Prediction.parse(path, line, number) for number, line in lines if line]
    if scored is not None and len(found) != scored:
        raise DamagedFileError(f"{path} is damaged (it has {len(found)} lines, and {scored} texts were scored)")
    return found
