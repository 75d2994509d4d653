"""What an arm wrote for each test dialogue, with its scores."""

from __future__ import annotations

from pathlib import Path

from tuneoff.records.base import Record


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


def read_predictions(path: Path) -> list[Prediction]:
    """Every prediction of a trial, in the order of the data."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Prediction.model_validate_json(line) for line in lines if line]
