"""What a run says of itself: that its arms were computed right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneoff.records import Agreement, Checks
from tuneoff.report.rows import ArmRow


def checks_text(rows: Sequence[ArmRow]) -> str | None:
    """One sentence on what all trials checked on themselves, with the largest difference of any. None without any."""
    every = [checks for row in rows for checks in row.checks]
    if not every:
        return None
    parts = [
        part
        for part in (
            _equal("loss equal to {}", every, lambda c: c.loss),
            _equal("gradient to {}", every, lambda c: c.gradient_norm),
            _equal("split into single examples to {}", every, lambda c: c.split_loss),
        )
        if part
    ]
    if all(c.moved and c.moved.moved == c.moved.trainable and not c.moved.frozen_moved for c in every):
        parts.append("every tensor that is trained moved and no other one did")
    if all(c.reloaded_loss is not None for c in every):
        parts.append("what was saved is what was trained")
    missing = sorted({f"{row.arm}: {reason}" for row in rows for checks in row.checks for reason in checks.not_checked})
    not_checked = f" Not checked: {'; '.join(missing)}." if missing else ""
    count = max(checks.examples for checks in every)
    examples = f"{count} examples" if count > 1 else "an example"
    return f"Checked against plain transformers on {examples} of the first step: {', '.join(parts)}.{not_checked}"


def _equal(text: str, every: Sequence[Checks], figure: Callable[[Checks], Agreement | None]) -> str | None:
    found = [agreement.difference for checks in every if (agreement := figure(checks)) is not None]
    if not found:
        return None
    return text.format(f"{max(found):.0e}".replace("e-0", "e-") if max(found) > 0 else "the last digit")
