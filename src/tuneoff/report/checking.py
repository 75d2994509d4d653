"""What a run says of itself: that its arms were computed right, and where they were not computed alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneoff.records import Agreement, Checks
from tuneoff.report.comparison import ArmRow


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


def engines_differ(row: ArmRow, other: ArmRow) -> bool:
    """Whether two arms were computed by different engines, so that a ratio of their times is that of programs, too."""
    return row.engine is not None and other.engine is not None and row.engine != other.engine


def engines_text(rows: Sequence[ArmRow]) -> str | None:
    """Which engine computed which arm, where they are not the same."""
    by_engine: dict[str, list[str]] = {}
    for row in rows:
        if row.engine is not None:
            by_engine.setdefault(row.engine, []).append(row.arm)
    if len(by_engine) < 2:
        return None
    shown = ", ".join(f"{' and '.join(arms)} by {engine}" for engine, arms in by_engine.items())
    return f"engines differ ({shown}): ratios of time and memory between them are of the program, too"
