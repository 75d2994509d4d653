"""Whether the disk has room for what the trials of a run are about to write."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.errors import NoSpaceError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial
from tuneoff.records import Plan
from tuneoff.room import free_bytes
from tuneoff.units import bytes_text

STATES = 3  # a checkpoint beside what is saved: each trained weight, and AdamW's two moments of it
CHECKPOINTS = 3  # that a trial has at once: the two that it keeps, and the one that is being written
BEST = 2  # copies of the weights with `training.keep: best`: the best so far, and a better one that is being written


def require_space(folder: RunFolder, recipe: Recipe, plan: Plan, trials: Sequence[Trial]) -> None:
    """Raise NoSpaceError where the run's disk has less room than `trials` are predicted to need.

    They need what each of them saves, and the checkpoints of the largest: those of finished trials are gone. What they
    have written already, before they were interrupted, is not needed again. A training
    that is predicted to end before its first checkpoint is due writes one at most, when it is asked to stop.
    """
    arms = {arm.arm: arm for arm in plan.arms}
    saved, checkpoints, there = 0, [0], 0
    for trial in trials:
        arm = arms.get(trial.arm)
        size = (arm.saved_bytes or 0) if arm is not None else 0
        seconds = (arm.seconds or {}).get("train") if arm is not None else None
        short = seconds is not None and seconds.high < 60 * recipe.training.checkpoint_minutes
        best = BEST if recipe.training.keep == "best" else 0
        checkpoints.append((STATES * (1 if short else CHECKPOINTS) + best) * size)
        saved += size
        own = folder.trial(trial.arm, trial.seed).path
        there += sum(path.stat().st_size for path in own.rglob("*") if path.is_file())
    needed = max(0, saved + max(checkpoints) - there)
    free = free_bytes(folder.path)
    if needed > free:
        raise NoSpaceError(
            f"{folder.path}: the trials to come need {bytes_text(needed)} on the disk, {bytes_text(saved)} for models "
            f"and the rest for checkpoints, and {bytes_text(free)} are free. Make room, choose another disk with "
            "--out, or run it all the same with --force."
        )
