"""How an arm's training went, as far as its history and its outputs show it: the reasons why it may have failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from tuneoff.records import Prediction, Record, read_history
from tuneoff.report.arms import Arm
from tuneoff.score.metrics.words import words

PART = 8  # the beginning, and the end, of a history: an eighth of its lines
CHANGED = 0.02  # the share of a loss by which it must differ to have changed
MANY = 0.2  # the share of outputs that is worth a reason


class Course(Record):
    """The training and the outputs of an arm at its first finished seed. None where it is not recorded.

    Attributes:
        learning_rate: The rate that it was trained with.
        steps: Optimizer steps that were done.
        first_loss: The mean training loss of the first eighth of the history, in nats per token.
        before_last_loss: That of the eighth before the last one.
        last_loss: That of the last eighth.
        diverged: Whether one of the training losses is no number, or infinite.
        best_validation: The lowest validation loss and `best_step`, its step; `last_validation` is the last one.
        outputs: How many texts it wrote. `truncated` of them were cut off at `max_new_tokens`, and `wordless` share no
            word with any of their references.
    """

    learning_rate: float | None = None
    steps: int | None = None
    first_loss: float | None = None
    before_last_loss: float | None = None
    last_loss: float | None = None
    diverged: bool = False
    best_validation: float | None = None
    best_step: int | None = None
    last_validation: float | None = None
    outputs: int = 0
    truncated: int = 0
    wordless: int = 0


def course_of(arm: Arm) -> Course | None:
    """How an arm that trains went; None for one that does not, or has not finished."""
    if arm.first is None or arm.first_folder is None or not arm.spec.trains:
        return None
    predictions = arm.predictions[arm.first.seed]
    history = read_history(arm.first_folder.history)
    losses = [line["loss"] for line in history if "loss" in line]
    validations = [(line["step"], line["eval_loss"]) for line in history if "eval_loss" in line]
    best = min((one for one in validations if math.isfinite(one[1])), key=lambda one: one[1], default=None)
    part = max(1, len(losses) // PART)
    rate = arm.first.settings.get("learning_rate")
    return Course(
        learning_rate=rate if isinstance(rate, float) else None,
        steps=arm.first.training.steps if arm.first.training is not None else None,
        first_loss=_mean(losses[:part]),
        before_last_loss=_mean(losses[-2 * part : -part]) if len(losses) >= 4 * part else None,
        last_loss=_mean(losses[-part:]),
        diverged=not all(map(math.isfinite, losses)),
        best_validation=best[1] if best is not None else None,
        best_step=int(best[0]) if best is not None else None,
        last_validation=validations[-1][1] if best is not None and math.isfinite(validations[-1][1]) else None,
        outputs=len(predictions),
        truncated=sum(p.truncated for p in predictions),
        wordless=sum(_wordless(p) for p in predictions),
    )


def _mean(losses: Sequence[float]) -> float | None:
    return fmean(losses) if losses and all(map(math.isfinite, losses)) else None


def _wordless(prediction: Prediction) -> bool:
    written = set(words(prediction.prediction))
    return not any(written & set(words(reference)) for reference in prediction.references)


def reasons(course: Course) -> list[str]:
    """What may have kept an arm from becoming better, each with what to try; empty where nothing of it shows."""
    found = [*_loss_reasons(course), *_output_reasons(course)]
    best, last = course.best_validation, course.last_validation
    if best is not None and last is not None and last > best * (1 + CHANGED):
        found.append(
            f"its validation loss rose from {best:.3f} at step {course.best_step} to {last:.3f}: it overfits, try "
            "fewer epochs or `training.keep: best`"
        )
    return found


def _loss_reasons(course: Course) -> list[str]:
    first, before, last = course.first_loss, course.before_last_loss, course.last_loss
    rate = f"the learning rate {course.learning_rate:g}" if course.learning_rate is not None else "the learning rate"
    steps = f" over {course.steps:,} steps" if course.steps is not None else ""
    if course.diverged:
        return [f"its training diverged: a loss is no number. Try less than {rate}"]
    if first is None or last is None:
        return []
    if last > first * (1 + CHANGED):
        return [f"its training loss rose from {first:.3f} to {last:.3f}{steps}: {rate} may be too high"]
    if last > first * (1 - CHANGED):
        return [f"its training loss hardly changed, from {first:.3f} to {last:.3f}{steps}: {rate} may be too low"]
    if before is not None and last < before * (1 - CHANGED):
        return [
            f"its training loss was still falling at the end (from {before:.3f} to {last:.3f} in the last quarter"
            f"{steps.replace('over', 'of')}): more steps may help"
        ]
    return []


def _output_reasons(course: Course) -> list[str]:
    found = []
    if course.truncated > MANY * course.outputs:
        found.append(
            f"{course.truncated:,} of its {course.outputs:,} outputs were cut off: `evaluation.max_new_tokens` may be "
            "too small, or it did not learn to stop"
        )
    if course.wordless > MANY * course.outputs:
        found.append(
            f"{course.wordless:,} of its {course.outputs:,} outputs share no word with their references: compare the "
            "prompt and the references with `tuneoff data`"
        )
    return found
