"""Which step's weights an arm kept, in words."""

from __future__ import annotations

from tuneoff.records import KeptStep
from tuneoff.report.rows import ArmRow
from tuneoff.units import duration_text


def kept_notes(rows: list[ArmRow]) -> list[str]:
    """A sentence for each arm that keeps the weights with the lowest validation loss, and what the steps after cost."""
    notes = [
        f"{row.arm}{f' (seed {seed})' if len(row.seeds) > 1 else ''}: {_kept(kept)}"
        for row in rows
        for seed, kept in zip(row.seeds, row.kept, strict=False)
    ]
    if any(kept.stopped_early is not None for row in rows for kept in row.kept):
        notes.append("where trainings stopped early, ratios of training time are of the steps that both arms did")
    return notes


def _kept(kept: KeptStep) -> str:
    text = f"the weights of step {kept.step} are kept, whose validation loss {kept.validation_loss:.3f} is the lowest"
    if kept.steps_after:
        took = duration_text(kept.seconds_after)
        last = "no number" if kept.last_loss is None else f"{kept.last_loss:.3f}"
        text += f" ({last} after {kept.steps_after} more steps, which took {took})"
    if kept.stopped_early is not None:
        text += f"; stopped early, after step {kept.stopped_early}"
        if kept.steps_not_done is not None:
            text += f" of {kept.stopped_early + kept.steps_not_done}: {kept.steps_not_done} steps were not done"
    return text
