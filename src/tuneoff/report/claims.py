"""What courses and papers say of LoRA and related methods, beside what this run measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuneoff.records import Record
from tuneoff.report.alike import pair_text
from tuneoff.report.arms import Arm
from tuneoff.report.comparison import Comparison
from tuneoff.report.rows import ArmRow
from tuneoff.report.runs import RunArms
from tuneoff.report.tuning import interval_text
from tuneoff.score.evidence import PairedDifference
from tuneoff.score.metrics import find_metric

SURE = 0.05
LOW_RANK = 16  # of matrices with hundreds of rows: a rank that is called low
COURSES = "said in courses and blogs; no measurement was found that it comes from"
ATTENTION = {"q", "k", "v", "o", "q_proj", "k_proj", "v_proj", "o_proj"}
TENFOLD = (5, 20)  # times: what is called about ten
ALIKE = 0.1  # by which the parameters of two arms differ at most that are called equally large

Outcome = Literal["held", "not held", "not shown", "not measured"]


class Claim(Record):
    """A claim, where it comes from, and what this run measured of it.

    Attributes:
        said: The claim.
        source: Who says it.
        arm: The arm that it was tested on.
        outcome: Whether it held; `not shown` where the run's examples are too few to say.
        measured: The figure that says so, or what would have to be run to measure it.
    """

    said: str
    source: str
    arm: str
    outcome: Outcome
    measured: str


@dataclass(frozen=True)
class Tested:
    """What all claims on one arm are tested by: the arm, and full fine-tuning."""

    comparison: Comparison
    arms: dict[str, Arm]
    full: ArmRow
    other: ArmRow

    def metric_pair(self) -> PairedDifference | None:
        """The arm's score less full's, by the judged metric."""
        evidence = self.comparison.evidence
        found = evidence.differences if evidence is not None else []
        names = {self.other.arm, self.full.arm}
        return next((d for d in found if d.metric == self.comparison.metrics[0] and {d.arm, d.other} == names), None)


def claims(comparison: Comparison, arms: Sequence[Arm]) -> list[Claim]:
    """What is said of full fine-tuning, of every arm that trains a part of the weights beside it, and of pairs of LoRA.

    Of finished arms alone.
    """
    by_name = {arm.name: arm for arm in arms}
    return [
        *(claim for run in comparison.runs for claim in _of_run(comparison, by_name, run)),
        *_all_linear(comparison, by_name),
    ]


def _of_run(comparison: Comparison, by_name: dict[str, Arm], run: RunArms) -> list[Claim]:
    """What is said of full fine-tuning of one run, and of its other arms beside it."""
    rows = {row.arm: row for row in comparison.arms if row.seeds and row.arm in run.arms}
    full = rows.get(run.baseline or "")
    others = [row for row in rows.values() if row.method not in ("none", "full")]
    if full is None or not others:
        return []
    made = [_low_rank(comparison, full.arm)]
    for other in others:
        tested = Tested(comparison, by_name, full, other)
        made += [
            _cost("20 times faster", 20, "train_seconds", ("faster", "slower"), tested),
            _cost("5 times less memory", 5, "train_peak_bytes", ("less", "more"), tested),
            _gradients(tested),
            _less_of_both(tested),
            _intruders(tested),
            _rate(tested),
        ]
    return made


def _cost(said: str, times: float, quantity: str, words: tuple[str, str], tested: Tested) -> Claim:
    full, other = tested.full.arm, tested.other.arm
    found = (c for c in tested.comparison.costs if (c.arm, c.baseline, c.quantity) == (other, full, quantity))
    cost = next(found, None)
    if cost is None:
        return Claim(said=said, source=COURSES, arm=other, outcome="not measured", measured="not measured")
    ratio = cost.ratio.value
    text = f"{1 / ratio:.2f} times {words[0]}" if ratio <= 1 else f"{ratio:.2f} times {words[1]}"
    text += pair_text(cost.unlike, tested.comparison.unlike, other, full)
    outcome: Outcome = "held" if 1 / ratio >= times else "not held"
    return Claim(said=said, source=COURSES, arm=other, outcome=outcome, measured=text)


def _gradients(tested: Tested) -> Claim:
    full, other = tested.full.parameters, tested.other.parameters
    outcome: Outcome = "not measured"
    text = "not measured"
    if full is not None and other is not None:
        fewer = 1 - other.trainable / full.trainable
        outcome, text = ("held" if fewer >= 0.99 else "not held"), f"{100 * fewer:.1f} % fewer"
    return Claim(said="99 % fewer gradients", source=COURSES, arm=tested.other.arm, outcome=outcome, measured=text)


def _low_rank(comparison: Comparison, full: str) -> Claim:
    said, source = "the update of full fine-tuning is of low rank", "Aghajanyan et al. 2020, Hu et al. 2021"
    curves = next((one for one in comparison.learnt if one.arm == full), None)
    cuts = [cut for cut in curves.cuts if cut.kept is not None] if curves is not None else []
    low = [cut for cut in cuts if cut.rank <= LOW_RANK]
    if not low:
        text = "needs a diagnosed run with a validation split, on which full is surely better than the original"
        return Claim(said=said, source=source, arm=full, outcome="not measured", measured=text)
    most = low[-1]
    assert most.kept is not None
    kept, low_end, high = (100 * x for x in (most.kept.value, most.kept.low, most.kept.high))
    text = (
        f"cut to rank {most.rank} it keeps {kept:.1f} % [{low_end:.1f}, {high:.1f}] of its gain in validation loss, "
        f"with {100 * most.energy:.0f} % of ‖Δ‖²"
    )
    outcome: Outcome = "held" if kept >= 95 else "not held"
    return Claim(said=said, source=source, arm=full, outcome=outcome, measured=text)


def _less_of_both(tested: Tested) -> Claim:
    """LoRA learns less and forgets less: by the judged metric, and by the loss on other texts."""
    said, source, other, full = (
        "learns less and forgets less",
        "Biderman et al. 2024",
        tested.other.arm,
        tested.full.arm,
    )
    score, found = tested.metric_pair(), tested.comparison.forgotten
    known = found is not None and {other, full} <= found.evidence.means.keys()
    if score is None or found is None or not known:
        text = "needs scores of both, and a run in which both were diagnosed on the same texts"
        return Claim(said=said, source=source, arm=other, outcome="not measured", measured=text)
    metric = find_metric(tested.comparison.metrics[0])
    worse = _sided(score, other, better_is_more=metric.better == "higher")
    pair = next(d for d in found.evidence.differences if {d.arm, d.other} == {other, full})
    forgets = _sided(pair, other, better_is_more=True)  # less of the loss is less forgotten
    value = score.difference.value if score.arm == other else -score.difference.value
    own, theirs = (found.change(arm).difference.value for arm in (other, full))
    text = (
        f"{metric.shown(value, fewer=1, sign=True)} {metric.unit} of {metric.label} (p {_p(score.p_holm)}); forgot "
        f"{own:+.3f} against {theirs:+.3f} nats per token (p {_p(pair.p_holm)})"
    )
    sides = worse, forgets
    outcome: Outcome = "held" if sides == (-1, -1) else "not held" if 1 in sides else "not shown"
    return Claim(said=said, source=source, arm=other, outcome=outcome, measured=text)


def _sided(pair: PairedDifference, arm: str, *, better_is_more: bool) -> int:
    """1 or −1 where `arm` has surely more or less, turned round where more is worse; 0 where it is not sure."""
    if pair.p_holm > SURE:
        return 0
    more = (pair.difference.value > 0) == (pair.arm == arm)
    return 1 if more == better_is_more else -1


def _intruders(tested: Tested) -> Claim:
    said, source = "LoRA has intruder dimensions, full fine-tuning has not", "Shuttleworth et al. 2024"
    counts = [_count_intruders(tested.arms[row.arm]) for row in (tested.other, tested.full)]
    if counts[0] is None or counts[1] is None:
        text = "needs a diagnosed run, and matrices of at most 2,048 rows or columns"
        return Claim(said=said, source=source, arm=tested.other.arm, outcome="not measured", measured=text)
    (own, of), (theirs, _) = counts[0], counts[1]
    return Claim(
        said=said,
        source=source,
        arm=tested.other.arm,
        outcome="held" if own > 0 and theirs == 0 else "not held",
        measured=f"{own} among the ten strongest directions of {of} matrices; full: {theirs}",
    )


def _count_intruders(arm: Arm) -> tuple[int, int] | None:
    matrices = next((d.modules for d in arm.diagnoses.values() if d.modules), [])
    counted = [m.intruders for m in matrices if m.intruders is not None]
    return (sum(counted), len(counted)) if counted else None


def _rate(tested: Tested) -> Claim:
    """The best rate of LoRA is ten times that of full: by the optima of both searches, or else by the rates chosen."""
    said, source = "its best learning rate is about ten times full's", "Schulman et al. 2025 (LoRA Without Regret)"
    arm, full = tested.other.arm, tested.full.arm
    found = next((r for r in tested.comparison.optima.ratios if (r.arm, r.baseline) == (arm, full)), None)
    chosen = {tuning.arm: tuning.chosen for tuning in tested.comparison.tuning}
    if found is None and not {arm, full} <= chosen.keys():
        text = "needs `tune` on both arms"
        return Claim(said=said, source=source, arm=arm, outcome="not measured", measured=text)
    if found is not None:
        ratio, text = found.value, f"{found.value:.3g} times {interval_text(found.low, found.high, '{:.3g}')}"
    else:
        ratio = chosen[arm] / chosen[full]
        text = f"{ratio:.3g} times, of the rates that were tried"
    low, high = TENFOLD
    outcome: Outcome = "held" if low <= ratio <= high else "not held"
    return Claim(said=said, source=source, arm=arm, outcome=outcome, measured=text)


def _all_linear(comparison: Comparison, arms: dict[str, Arm]) -> list[Claim]:
    """All linear layers beat attention alone at equal parameters: of every pair of such LoRA arms."""
    said = "all linear layers beat attention alone at equal parameters"
    source = "Schulman et al. 2025, Biderman et al. 2024"
    rows = [row for row in comparison.arms if row.seeds and row.method == "lora" and row.parameters is not None]
    wide = [row for row in rows if arms[row.arm].spec.settings.get("target_modules") == "all-linear"]
    narrow = [row for row in rows if _attention_alone(arms[row.arm].spec.settings.get("target_modules"))]
    metric = find_metric(comparison.metrics[0])
    found = []
    for one in wide:
        for other in narrow:
            assert one.parameters is not None and other.parameters is not None
            pair = Tested(comparison, arms, other, one).metric_pair()
            if pair is None or abs(one.parameters.trainable / other.parameters.trainable - 1) > ALIKE:
                continue
            value = pair.difference.value if pair.arm == one.arm else -pair.difference.value
            side = _sided(pair, one.arm, better_is_more=metric.better == "higher")
            shown = metric.shown(value, fewer=1, sign=True)
            found.append(
                Claim(
                    said=said,
                    source=source,
                    arm=f"{one.arm}, {other.arm}",
                    outcome={1: "held", 0: "not shown", -1: "not held"}[side],
                    measured=f"{shown} {metric.unit} of {metric.label} (p {_p(pair.p_holm)})",
                )
            )
    if not found and rows and any(row.method == "full" for row in comparison.arms):
        text = "needs two LoRA arms of equal size: `target_modules: all-linear`, and attention's alone"
        return [Claim(said=said, source=source, arm=rows[0].arm, outcome="not measured", measured=text)]
    return found


def _attention_alone(targets: object) -> bool:
    return isinstance(targets, list | tuple) and bool(targets) and set(targets) <= ATTENTION


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"
