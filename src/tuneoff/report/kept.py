"""Which step's weights an arm kept, in words."""

from __future__ import annotations

from tuneoff.records import KeptStep
from tuneoff.report.comparison import ArmRow
from tuneoff.units import duration_text


def kept_notes(rows: list[ArmRow]) -> list[str]:
    """A sentence for each arm that keeps the weights with the lowest validation loss, and what the steps after cost."""
    notes = [f"{row.arm}: {'; '.join(map(_kept, row.kept))}" for row in rows if row.kept]
    if any(kept.stopped_early is not None for row in rows for kept in row.kept):
        notes.append("where trainings stopped early, ratios of training time are of the steps that both arms did")
    return notes


def _kept(kept: KeptStep) -> str:
    text = f"the weights of step {kept.step} are kept, whose validation loss {kept.validation_loss:.3f} is the lowest"
    if kept.steps_after:
        took = duration_text(kept.seconds_after)
        text += f" ({kept.last_loss:.3f} after {kept.steps_after} more steps, which took {took})"
    if kept.stopped_early is not None:
        text += f"; stopped early, after step {kept.stopped_early}"
    return text
