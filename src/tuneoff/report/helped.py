"""Whether training helped: each trained arm against the original model, and why not where it did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuneoff.records import Interval
from tuneoff.report.course import reasons
from tuneoff.report.rows import ArmRow
from tuneoff.report.wording import SURE, listed, p_text, points_text, turned
from tuneoff.score.evidence import Evidence
from tuneoff.score.metrics import Metric

NAMED = 3  # arms, at most, that the first sentence has the figures of


@dataclass(frozen=True)
class Helped:
    """One trained arm against the original model: what its training changed, and whether that is shown."""

    arm: str
    change: Interval
    p_holm: float
    outcome: Literal["better", "worse", "not shown"]

    def figures(self, metric: Metric) -> str:
        return f"{points_text(self.change, metric)}, {p_text(self.p_holm)}"


def helped(evidence: Evidence, metric: Metric, arms: Sequence[str], original: str) -> list[Helped]:
    """What training changed of the judged score, for each of `arms`."""
    found = []
    for arm in arms:
        own = next(
            (d for d in evidence.differences if d.metric == metric.name and {d.arm, d.other} == {arm, original}), None
        )
        if own is None:
            continue
        change = own.difference if own.arm == arm else turned(own.difference)
        better = (change.value > 0) == (metric.better == "higher")
        outcome: Literal["better", "worse", "not shown"] = "better" if better else "worse"
        found.append(Helped(arm, change, own.p_holm, outcome if own.p_holm <= SURE else "not shown"))
    return found


def helped_sentence(found: Sequence[Helped], metric: Metric, original: str, evidence: Evidence) -> str:
    """The first sentence of a verdict: whether training helped, and by how much."""
    better, worse, unclear = (
        [one for one in found if one.outcome == outcome] for outcome in ("better", "worse", "not shown")
    )
    before = metric.shown(evidence.means[original][metric.name].value, fewer=1)
    if not better:
        told = [f"{one.arm} is worse ({one.figures(metric)})" for one in worse]
        told += [f"{one.arm} is not shown to be better ({one.figures(metric)})" for one in unclear]
        return f"Training did not help: by {metric.label}, {listed(told)} than {original}, which has {before}."
    verb = "rose" if metric.better == "higher" else "fell"
    gains = [
        f"{metric.shown(evidence.means[one.arm][metric.name].value, fewer=1)} with {one.arm} ({one.figures(metric)})"
        for one in better
    ]
    if len(better) > NAMED:
        ordered = sorted(better, key=lambda one: one.change.value, reverse=metric.better == "higher")
        ends = [gains[better.index(one)] for one in (ordered[0], ordered[-1])]
        gains = [f"at best {ends[0]}", f"at least {ends[1]}, in {len(better)} arms"]
    helped_whom = (
        "Training helped" if len(better) == len(found) else f"Training helped {listed([b.arm for b in better])}"
    )
    rest = [f"{one.arm} is worse than {original} ({one.figures(metric)})" for one in worse]
    rest += [f"{one.arm} is not shown to be better than {original} ({one.figures(metric)})" for one in unclear]
    other = f"; {listed(rest)}" if rest else ""
    return f"{helped_whom}: {metric.label} {verb} from {before} ({original}) to {listed(gains)}{other}."


def failure_sentences(found: Sequence[Helped], rows: dict[str, ArmRow]) -> list[str]:
    """Why arms are not better than the original, as far as their history and their outputs show it."""
    said = []
    for one in found:
        course = rows[one.arm].course
        if one.outcome == "better" or course is None:
            continue
        why = reasons(course)
        if why:
            said.append(f"{one.arm}: {'; '.join(why)}.")
        elif course.first_loss is not None and course.last_loss is not None:
            said.append(
                f"{one.arm}: its history shows no reason; its training loss fell from {course.first_loss:.3f} to "
                f"{course.last_loss:.3f}."
            )
    return said
