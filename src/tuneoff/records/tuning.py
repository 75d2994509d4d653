"""An arm's search for its learning rate."""

from __future__ import annotations

from tuneoff.records.base import Record
from tuneoff.records.run import RunMark
from tuneoff.records.trial import Failure


class Try(Record):
    """One learning rate tried: its validation loss after `steps`, in nats a target token; None where it died."""

    origin: RunMark | None = None
    learning_rate: float
    steps: int
    validation_loss: float | None
    seconds: float
    failure: Failure | None = None


class Tuning(Record):
    """An arm's search for its learning rate: every try, and the one whose validation loss is lowest."""

    origin: RunMark | None = None
    arm: str
    tries: list[Try]
    chosen: float
