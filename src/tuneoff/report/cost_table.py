"""What the arms cost, as a table: seconds and bytes of each, ratios to the baseline, and what must be known of them."""

from __future__ import annotations

from tuneoff.report.alike import unlike_text
from tuneoff.report.comparison import Comparison
from tuneoff.report.costs import Cost, Quantity
from tuneoff.report.rows import ArmRow
from tuneoff.units import NONE, bytes_text, duration_text, range_text

COST_COLUMNS = ("arm", "training", "generating", "training peak", "generating peak", "process peak")
QUANTITIES: tuple[Quantity, ...] = (
    "train_seconds", "generate_seconds", "train_peak_bytes", "generate_peak_bytes", "process_peak_bytes",
)  # fmt: skip
WORTH = 0.05  # the difference between the two ratios of a time that is worth a note
PHASES = {"train": "was trained", "evaluate": "generated"}
PARTS: dict[str, tuple[str, str]] = {
    "train_seconds": ("training", "steps"),
    "generate_seconds": ("generating", "batches"),
}


def cost_rows(comparison: Comparison) -> list[list[str]]:
    """The cells under `COST_COLUMNS`: a row a finished arm, then a row of ratios for each but the baseline."""
    rows = [_cells(row) for row in comparison.arms if row.seeds]
    by_arm: dict[str, dict[str, Cost]] = {}
    for cost in comparison.costs:
        by_arm.setdefault(cost.arm, {})[cost.quantity] = cost
    for arm, costs in by_arm.items():
        baseline = next(iter(costs.values())).baseline
        ratios = [f"{costs[name].ratio.value:.2f}×" if name in costs else NONE for name in QUANTITIES]
        rows.append([f"{arm} ÷ {baseline}", *ratios])
    return rows


def _cells(row: ArmRow) -> list[str]:
    return [
        row.arm,
        duration_text(row.train_seconds) + ("*" if "train" in row.busy else ""),
        duration_text(row.generate_seconds) + ("*" if "evaluate" in row.busy else ""),
        bytes_text(row.train_peak_bytes),
        bytes_text(row.generate_peak_bytes),
        bytes_text(row.process_peak_bytes),
    ]


def cost_notes(comparison: Comparison) -> list[str]:
    """What the table's figures are, and what else must be known of them."""
    notes = [
        "time by the clock; peaks of training (one step on the largest batch) and of generating are over what the "
        "process held at its start, the process's is all that it held, libraries included"
    ]
    notes += [busy_text(row, phase) for row in comparison.arms for phase in row.busy]
    notes += _paired(comparison)
    unlike = unlike_text(comparison.unlike)
    if unlike is not None:
        notes.append(unlike)
    return notes + [line for row in comparison.arms for line in _predicted(row)]


def busy_text(row: ArmRow, phase: str) -> str:
    """That an arm's seconds of a phase are of a busy machine."""
    return (
        f"* {row.arm} {PHASES[phase]} on a busy machine: other programs took {100 * row.busy[phase]:.0f} % of its CPU "
        "or GPU time, and its seconds are too many"
    )


def _paired(comparison: Comparison) -> list[str]:
    """How the ratios of times were found: one line for what all share, one for each in which parts were disturbed."""
    timed = [cost for cost in comparison.costs if cost.quantity in PARTS]
    if not any(cost.ratio.low is not None or cost.disturbed or cost.steps is not None for cost in timed):
        return []
    notes = [
        "÷: ratios of times are of the same steps and batches, paired, without those of warm-up"
        + (", and as if the machine had been as fast for both" if any(cost.evened for cost in timed) else "")
    ]
    rows = {row.arm: row for row in comparison.arms}
    for cost in timed:
        what, parts = PARTS[cost.quantity]
        told = [disturbed_text(cost, parts)] if cost.disturbed else []
        one, other = (getattr(rows[name], cost.quantity) for name in (cost.arm, cost.baseline))
        if cost.steps is not None and one and other:
            told.append(
                f"{one / other:.2f}× by the clock over the whole trainings, which are of {cost.steps[0]:,.7g} and "
                f"{cost.steps[1]:,.7g} steps"
            )
        elif cost.evened and one and other and abs(one / other / cost.ratio.value - 1) > WORTH:
            told.append(f"{one / other:.2f}× by the clock, of a machine that was not as fast for both")
        if told:
            notes.append(f"{cost.arm} ÷ {cost.baseline}, {what}: {'; '.join(told)}")
    return notes


def disturbed_text(cost: Cost, parts: str) -> str:
    """What became of the pairs in which other programs were at work."""
    if cost.ratio.low is None:
        return f"other programs were at work in {cost.disturbed} of {cost.pairs} {parts}: too few others are left"
    return f"{cost.disturbed} of {cost.disturbed + cost.pairs} {parts} left out, in which other programs were at work"


def _predicted(row: ArmRow) -> list[str]:
    """What the plan said of an arm's training, beside what was measured."""
    if not row.seeds or not row.predicted_peak_bytes or not row.train_peak_bytes:
        return []
    off = 100 * (row.predicted_peak_bytes / row.train_peak_bytes - 1)
    text = f"{row.arm}: memory predicted {bytes_text(row.predicted_peak_bytes)} ({off:+.1f} %)"
    train = (row.predicted_seconds or {}).get("train")
    return [f"{text}, training {range_text(train)}" if train else text]
