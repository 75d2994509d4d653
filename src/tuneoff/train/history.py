"""The history of a training: `history.jsonl`, and the trackers that the recipe names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneoff.folder import write_whole
from tuneoff.records import read_history
from tuneoff.train.best import Validation

LINES = 100  # lines of loss in a history, about


class History:
    """Writes a line about every `count / LINES` steps, with the mean loss of the steps since the line before.

    Attributes:
        window: The losses of the steps since the last line. A checkpoint keeps them.
    """

    def __init__(self, path: Path, count: int, per_epoch: int, track: Callable[[dict[str, float], int], None]) -> None:
        self._path = path
        self._every = max(1, count // LINES)
        self._per_epoch = per_epoch
        self._track = track
        self.window: list[float] = []

    def begin(self, resumed_from: int) -> float:
        """Drop the lines after the step that training goes on from. Returns the most seconds that a line told of."""
        lines = read_history(self._path)
        kept = [line for line in lines if line["step"] <= resumed_from]
        write_whole(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return max((line["train_seconds"] for line in lines), default=0.0)

    def step(self, step: int, loss: float, learning_rate: float, grad_norm: float, train_seconds: float) -> None:
        """Note one step, counted from 1."""
        self.window.append(loss)
        if step % self._every == 0:
            mean = sum(self.window) / len(self.window)
            self.window.clear()
            self._write(step, train_seconds, loss=mean, grad_norm=grad_norm, learning_rate=learning_rate)

    def validation(self, step: int, eval_loss: float, train_seconds: float) -> None:
        """Note the loss on the validation split after `step` steps."""
        self._write(step, train_seconds, eval_loss=eval_loss)

    @property
    def validations(self) -> list[Validation]:
        """Every validation so far, in order."""
        return [
            Validation(line["step"], line["eval_loss"], line["train_seconds"])
            for line in read_history(self._path)
            if "eval_loss" in line
        ]

    @property
    def last_loss(self) -> float | None:
        """The loss of the last line that has one."""
        return next((line["loss"] for line in reversed(read_history(self._path)) if "loss" in line), None)

    def _write(self, step: int, train_seconds: float, **values: float) -> None:
        line: dict[str, Any] = {"step": step, **values, "epoch": step / self._per_epoch}
        line["train_seconds"] = round(train_seconds, 3)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._track({key: value for key, value in line.items() if key != "step"}, step)
