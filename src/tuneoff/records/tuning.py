"""An arm's search for its learning rate."""

from __future__ import annotations

from pathlib import Path

from tuneoff.errors import DamagedFileError
from tuneoff.records.base import Record, read_text
from tuneoff.records.run import RunMark
from tuneoff.records.trial import Failure


class Try(Record):
    """One learning rate tried: its validation loss after `steps`, in nats a target token; None where it died.

    `rung` is which of a successive halving it was tried in, counted from 1; None where each rate is tried once.
    """

    origin: RunMark | None = None
    learning_rate: float
    rung: int | None = None
    steps: int
    validation_loss: float | None
    seconds: float
    failure: Failure | None = None


class ValidationLoss(Record):
    """The loss on one example of the validation split after a try: nats, summed over so many target tokens."""

    nats: float
    tokens: int


def read_validation(path: Path) -> list[ValidationLoss]:
    """Every line of a try's `validation.jsonl`, in the order of the data; empty where an older tuneoff tried it.

    Raises DamagedFileError.
    """
    if not path.is_file():
        return []
    lines = enumerate(read_text(path).split("\n"), start=1)
    found = [ValidationLoss.parse(path, line, number) for number, line in lines if line]
    if not sum(line.tokens for line in found):
        raise DamagedFileError(f"{path} is damaged (it has no tokens)")
    return found


class Tuning(Record):
    """An arm's search for its learning rate: every try, and the one whose validation loss is lowest.

    With successive halving, `chosen` is that of the last rung.
    """

    origin: RunMark | None = None
    arm: str
    tries: list[Try]
    chosen: float
