"""What happens beside the training: history, progress, checkpoints by the clock, a clean stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tuneoff.model.methods import after_optimizer_step
from tuneoff.records import read_history

KEPT = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch")


class History(TrainerCallback):
    """Writes `history.jsonl`: a line for each log, with the seconds of training up to it."""

    def __init__(self, path: Path, train_seconds: Callable[[], float], resumed_from: int) -> None:
        self._path = path
        self._train_seconds = train_seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_history(path) if line["step"] <= resumed_from]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        line = {key: float(value) for key, value in (logs or {}).items() if key in KEPT}
        if "loss" not in line and "eval_loss" not in line:  # Trainer's closing summary
            return
        line = {"step": state.global_step, **line, "train_seconds": round(self._train_seconds(), 3)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Progress(TrainerCallback):
    """Reports (steps done, steps in all, last loss) after each step."""

    def __init__(self, report: Callable[[int, int, float | None], None]) -> None:
        self._report = report
        self._loss: float | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._report(state.global_step, state.max_steps, self._loss)


class Stops(TrainerCallback):
    """Saves every `minutes`, and saves and stops after the step in which `stop_asked` turned true."""

    def __init__(self, minutes: float, stop_asked: Callable[[], bool]) -> None:
        self._interval = minutes * 60
        self._stop_asked = stop_asked
        self._saved_at = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = time.monotonic() - self._saved_at >= self._interval
        if self._stop_asked() or (due and state.global_step < state.max_steps):
            control.should_save = True
            control.should_training_stop = self._stop_asked()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved_at = time.monotonic()


class Begin(TrainerCallback):
    """Calls `action` when model and optimizer are ready, before the first step."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._action()


class MethodStep(TrainerCallback):
    """Lets the method do what it must after an optimizer step."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        after_optimizer_step(model, state.global_step)
