"""The verdict in words: what the evidence supports, and no more."""

from __future__ import annotations

from tuneoff.report.checking import engines_differ
from tuneoff.report.comparison import ArmRow, Comparison
from tuneoff.score.evidence import Evidence, Interval, NonInferiority, PairedDifference

METRIC, NAME = "rouge1", "ROUGE-1"
SURE = 0.05


def verdict(comparison: Comparison) -> list[str]:
    """Sentences, the most important first; empty where nothing can be judged yet."""
    evidence = comparison.evidence
    if evidence is None or len(evidence.means) < 2:
        return []
    rows = {row.arm: row for row in comparison.arms}
    original = next((row.arm for row in comparison.arms if row.method == "none" and row.arm in evidence.means), None)
    said = [_same(group, original, evidence) for group in comparison.same_outputs]
    judged = [j for j in evidence.non_inferiority if j.metric == METRIC and not _same_as(comparison, j.arm, j.baseline)]
    idle = {arm for group in comparison.same_outputs if original in group for arm in group}
    said += [_kept(j, rows, evidence) for j in judged if j.arm not in idle]
    if judged and original is not None:
        said += _gain(judged[0].baseline, original, evidence)
    elif not judged:
        pairs = (d for d in evidence.differences if d.metric == METRIC)
        said += [_compared(d) for d in pairs if not _same_as(comparison, d.arm, d.other)]
    if said and any(rows[arm].method != "none" for arm in evidence.means):
        said.append(_scope(evidence))
    return said


def _kept(judged: NonInferiority, rows: dict[str, ArmRow], evidence: Evidence) -> str:
    margin = f"{100 * (1 - judged.keep):.3g} % margin"
    if judged.holds:
        shown = f"shown to be within the {margin} (p {_p(judged.p_holm)})"
    elif judged.kept.high < judged.keep:
        shown = f"it keeps less than the {100 * judged.keep:.3g} % asked for"
    else:
        shown = (
            f"not shown to be within the {margin}: {evidence.dialogues:,} dialogues could show "
            f"{100 * judged.provable:.1f} points, and {judged.dialogues_needed:,} would be needed"
        )
    costs = _costs(rows[judged.arm], rows[judged.baseline])
    at = f" at {costs}" if costs else ""
    return f"{judged.arm} keeps {_percent(judged.kept)} of {judged.baseline}'s {NAME}{at}; {shown}."


def _costs(row: ArmRow, full: ArmRow) -> str:
    """Parameters, memory and time as shares of the baseline's; what was not measured is left out."""
    parts = []
    if row.parameters and full.parameters:
        share = 100 * row.parameters.trainable / full.parameters.trainable
        parts.append(f"{share:.{1 if share < 10 else 0}f} % of the trainable parameters")
    for mine, its, what in (
        (row.train_peak_bytes, full.train_peak_bytes, "the memory"),
        (row.train_seconds, full.train_seconds, "the training time"),
    ):
        if mine is not None and its:
            parts.append(f"{mine / its:.2f}× {what}")
    if engines_differ(row, full) and len(parts) > 1:
        parts[-1] += f" (by other engines: {row.engine} and {full.engine})"
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _gain(baseline: str, original: str, evidence: Evidence) -> list[str]:
    """What full fine-tuning gained itself, and the others' shares; where it has not, to keep its score is no merit."""
    gain = next(d for d in evidence.differences if d.metric == METRIC and {d.arm, d.other} == {baseline, original})
    points = gain.difference if gain.arm == baseline else _turned(gain.difference)
    if gain.p_holm > SURE:
        return [
            f"{baseline} is not shown to be better than {original} ({_points(points)}): keeping its score says little."
        ]
    if points.value < 0:
        return [f"{baseline} is worse than {original} ({_points(points)}): keeping its score is no merit."]
    gained = [
        f"{j.arm} has {_percent(j.gained)}"
        for j in evidence.non_inferiority
        if j.metric == METRIC and j.gained is not None
    ]
    of_it = f" Of this gain {', '.join(gained)}." if gained else ""
    return [f"{baseline} gains {_points(points)} {NAME} over {original}.{of_it}"]


def _compared(d: PairedDifference) -> str:
    if d.p_holm <= SURE:
        return f"{d.arm} differs from {d.other} by {_points(d.difference)} {NAME} (p {_p(d.p_holm)})."
    return (
        f"{d.arm} and {d.other} are not shown to differ in {NAME} ({_points(d.difference)}, p {_p(d.p_holm)}; "
        f"a difference of {100 * d.detectable:.1f} points would be found in 80 % of cases)."
    )


def _same(group: list[str], original: str | None, evidence: Evidence) -> str:
    others = [arm for arm in group if arm != original]
    if original in group:
        return (
            f"{' and '.join(others)} wrote exactly what {original} wrote on all {evidence.dialogues:,} dialogues: "
            "what was trained changes nothing."
        )
    names = " and ".join(others)
    return f"{names} wrote the same on all {evidence.dialogues:,} dialogues: there is no difference to judge."


def _same_as(comparison: Comparison, arm: str, other: str) -> bool:
    return any(arm in group and other in group for group in comparison.same_outputs)


def _scope(evidence: Evidence) -> str:
    if len(evidence.seeds) == 1:
        return "One seed: this speaks of these checkpoints, not of the methods."
    return f"Over {len(evidence.seeds)} seeds; intervals hold the spread over seeds and over dialogues."


def _turned(interval: Interval) -> Interval:
    return Interval(value=-interval.value, low=-interval.high, high=-interval.low)


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _points(difference: Interval) -> str:
    value, low, high = (round(100 * x, 1) + 0.0 for x in (difference.value, difference.low, difference.high))  # no -0.0
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"
