"""What an arm wrote for each example of the split that is scored, with its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from tuneoff.errors import DamagedFileError
from tuneoff.records.base import Record, read_text


class Prediction(Record):
    """One example, what an arm wrote for it, and how that is scored.

    Attributes:
        id: Its `id` in the data, or else its number.
        input: What a person is shown: the input column, or all of a prompt that has other columns, too.
        columns: The columns of the prompt; empty in a run of an older tuneoff, of which `input` is the input column.
        references: What should be written.
        prediction: What was written.
        truncated: Whether it was cut off at `max_new_tokens`.
        scores: By metric, a figure for each reference; of a corpus metric, its statistics.
    """

    id: str
    input: str
    columns: dict[str, str] = Field(default_factory=dict)
    references: list[str]
    prediction: str
    truncated: bool
    scores: dict[str, list[float]]

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Before 2026-12 the metrics, which were ROUGE alone, stood beside the text."""
        if isinstance(values, dict) and "scores" not in values:
            known = {name: value for name, value in values.items() if name in cls.model_fields}
            return {**known, "scores": {name: value for name, value in values.items() if name not in known}}
        return values


def read_predictions(path: Path, scored: int | None = None) -> list[Prediction]:
    """Every prediction of a trial, in the order of the data. `scored` is how many the trial's result speaks of.

    Raises DamagedFileError, also where there are not so many.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)
    found = [Prediction.parse(path, line, number) for number, line in lines if line]
    if scored is not None and len(found) != scored:
        raise DamagedFileError(f"{path} is damaged (it has {len(found)} lines, and {scored} texts were scored)")
    return found
