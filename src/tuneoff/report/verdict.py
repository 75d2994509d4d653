"""The verdict in words: what the evidence supports, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.report.alike import pair_text
from tuneoff.report.comparison import Comparison
from tuneoff.report.cost_table import busy_text, disturbed_text
from tuneoff.report.forgotten import forgotten_sentences
from tuneoff.report.helped import failure_sentences, helped, helped_sentence
from tuneoff.report.runs import RunArms
from tuneoff.report.wording import SURE, listed, p_text, percent_text, points_text, turned
from tuneoff.score.evidence import Evidence, NonInferiority, PairedDifference
from tuneoff.score.metrics import Metric, find_metric
from tuneoff.score.ratios import Ratio


def verdict(comparison: Comparison) -> list[str]:
    """Sentences, the most important first; empty where nothing can be judged yet.

    For each run: whether training helped, why not where it did not, what the cheaper arms keep of full fine-tuning's
    score and at what cost, and whether an arm is best of all. Then what was forgotten, and what all of it speaks of.
    """
    if comparison.scored_differently is not None:
        return [f"No verdict: {comparison.scored_differently}."]
    evidence = comparison.evidence
    if evidence is None or len(evidence.means) < 2:
        return []
    metric = find_metric(comparison.metrics[0])
    blind = _one_score(evidence, metric)
    if blind is not None:
        shown, examples = metric.shown(blind), comparison.words.example
        return [f"No verdict: {metric.label} is {shown} for every {examples} of every arm, and tells none apart."]
    same = comparison.same_outputs if metric.by_text else []  # models differ, though they may write the same
    trained = {row.arm for row in comparison.arms if row.method != "none"}
    examples = f"{evidence.examples:,} {comparison.words.examples}"
    said = [sentence for group in same if (sentence := _same(group, trained, examples)) is not None]
    judged = [_Judged(comparison, evidence, metric, run, same) for run in comparison.runs]
    said = [one for run in judged for one in run.lead()] + said + [one for run in judged for one in run.rest()]
    if len(judged) > 1:
        said += _across(comparison, evidence, metric)
    said += _busy(comparison)
    if said and comparison.forgotten is not None:
        baseline = next((run.baseline for run in comparison.runs if run.baseline is not None), None)
        said += forgotten_sentences(comparison.forgotten, baseline)
    if said and trained & set(evidence.means):
        said.append(_scope(evidence, comparison.words.examples))
    return said


class _Judged:
    """What is said of one run. Arms that wrote the same are not judged against each other: they are told as such."""

    def __init__(
        self,
        comparison: Comparison,
        evidence: Evidence,
        metric: Metric,
        run: RunArms,
        same: Sequence[Sequence[str]],
    ) -> None:
        self._comparison, self._evidence, self._metric, self._run = comparison, evidence, metric, run
        self._same = same
        self._rows = {row.arm: row for row in comparison.arms}
        idle = {arm for group in same if run.original in group for arm in group}
        self._trained = [
            arm for arm in run.arms if arm in evidence.means and self._rows[arm].method != "none" and arm not in idle
        ]
        self._helped = helped(evidence, metric, self._trained, run.original) if run.original is not None else []

    def lead(self) -> list[str]:
        """Whether training helped, and why not where it did not."""
        if not self._helped or self._run.original is None:
            return []
        first = helped_sentence(self._helped, self._metric, self._run.original, self._evidence)
        return [first, *failure_sentences(self._helped, self._rows)]

    def rest(self) -> list[str]:
        """What is kept of full fine-tuning's score and at what cost, and how the other pairs compare."""
        kept = [j for j in self._evidence.non_inferiority if j.metric == self._metric.name and self._worth(j)]
        said = [_kept(j, self._metric, self._comparison, self._evidence) for j in kept]
        gained = [j for j in kept if j.gained is not None]
        if gained and self._run.original is not None:
            shares = listed([f"{j.arm} has {percent_text(j.gained)}" for j in gained if j.gained is not None])
            said.append(f"Of what {gained[0].baseline} gained over {self._run.original}, {shares}.")
        told = {frozenset((j.arm, j.baseline)) for j in kept}
        pairs = [d for d in self._pairs() if frozenset((d.arm, d.other)) not in told]
        said += [self._compared(d) for d in pairs] if len(self._trained) <= 3 else []  # more stand in the table
        return said + self._best()

    def _worth(self, judged: NonInferiority) -> bool:
        """Whether keeping the baseline's score means anything: both are better than the original, if there is one."""
        if (
            judged.arm not in self._trained
            or judged.baseline not in self._trained
            or self._among(judged.arm, judged.baseline)
        ):
            return False
        outcomes = {one.arm: one.outcome for one in self._helped}
        return not self._helped or outcomes.get(judged.arm) == outcomes.get(judged.baseline) == "better"

    def _among(self, arm: str, other: str) -> bool:
        return any(arm in group and other in group for group in self._same)

    def _pairs(self) -> list[PairedDifference]:
        """The differences of trained arms by the judged metric, but of those that wrote the same."""
        return [
            d
            for d in self._evidence.differences
            if d.metric == self._metric.name
            and d.arm in self._trained
            and d.other in self._trained
            and not self._among(d.arm, d.other)
        ]

    def _compared(self, d: PairedDifference) -> str:
        """A pair in words, with what the later arm costs beside the earlier where that was measured."""
        costs = _costs(self._comparison, d.arm, d.other)
        return compared_text(d, self._metric) + (f" It takes {costs}." if costs else "")

    def _best(self) -> list[str]:
        """Whether one of three or more trained arms is better than all others."""
        if len(self._trained) < 3:
            return []
        sign = 1 if self._metric.better == "higher" else -1
        means = {arm: sign * self._evidence.means[arm][self._metric.name].value for arm in self._trained}
        best = max(means, key=lambda arm: means[arm])
        rivals = [d for d in self._pairs() if best in (d.arm, d.other) and d.p_holm > SURE]
        value = self._metric.shown(self._evidence.means[best][self._metric.name].value, fewer=1)
        if not rivals:
            return [f"{best} has the best {self._metric.label}, {value}: it is shown to be better than each other arm."]
        names = listed([d.other if d.arm == best else d.arm for d in rivals])
        label = self._metric.label
        return [f"No arm is shown to be the best: {best} has the best {label}, {value}, but {names} may equal it."]


def _across(comparison: Comparison, evidence: Evidence, metric: Metric) -> list[str]:
    """How arms of the same name in several runs compare."""
    runs = {arm: run.run for run in comparison.runs for arm in run.arms}
    return [
        compared_text(d, metric)
        for d in evidence.differences
        if d.metric == metric.name
        and runs.get(d.arm) != runs.get(d.other)
        and not any({d.arm, d.other} <= set(group) for group in comparison.same_outputs)
        and all(run.original not in (d.arm, d.other) for run in comparison.runs)
    ]


def _kept(judged: NonInferiority, metric: Metric, comparison: Comparison, evidence: Evidence) -> str:
    margin, examples = margin_text(judged, metric), comparison.words.examples
    test = f"one-sided test of non-inferiority, {p_text(judged.p_holm)}"
    if judged.holds:
        shown = f"shown to be within the {margin} ({test})"
    elif judged.misses:
        shown = f"it loses more than the {margin}" if judged.keep is None else f"it {_misses(judged.keep, metric)}"
    else:
        shown = f"not shown to be within the {margin} ({test})" + _power(judged, metric, evidence, examples)
    costs = _costs(comparison, judged.arm, judged.baseline)
    at = f" at {costs}" if costs else ""
    has = "keeps" if metric.better == "higher" else "has"
    first = f"{judged.arm} {has} {percent_text(judged.kept)} of {judged.baseline}'s {metric.label}{at}; {shown}."
    return " ".join([first, *_other_metrics(judged, evidence)])


def _power(judged: NonInferiority, metric: Metric, evidence: Evidence, examples: str) -> str:
    """What this test set could have shown; nothing where scores do not vary."""
    if judged.provable <= 0:
        return ""
    needed = (
        f"for this margin about {judged.examples_needed:,} are needed"
        if judged.examples_needed is not None
        else f"more {examples} would not be enough with {len(evidence.seeds)} seeds: more seeds are needed"
    )
    provable = f"{metric.shown(judged.provable, fewer=1)} {metric.unit}"
    return f": with {evidence.examples:,} {examples} only a loss above {provable} can be ruled out; {needed}"


def _other_metrics(judged: NonInferiority, evidence: Evidence) -> list[str]:
    """What the same test says by the metrics that are not judged."""
    others = [
        j
        for j in evidence.non_inferiority
        if (j.arm, j.baseline) == (judged.arm, judged.baseline) and j.metric != judged.metric
    ]
    said = []
    for holds, words in ((True, "The same holds by {}."), (False, "It is not shown by {}.")):
        told = [f"{find_metric(j.metric).label} ({p_text(j.p_holm)})" for j in others if j.holds == holds]
        said += [words.format(listed(told))] if told else []
    return said


def margin_text(judged: NonInferiority, metric: Metric) -> str:
    """`3 % margin`, or `margin of 2 points`."""
    if judged.keep is not None:
        share = 1 - judged.keep if metric.better == "higher" else 1 / judged.keep - 1
        return f"{100 * share:.3g} % margin"
    allowed = f"{metric.scale * judged.margin:.3g}"
    return f"margin of {allowed} {metric.unit.removesuffix('s') if allowed == '1' else metric.unit}"


def _misses(keep: float, metric: Metric) -> str:
    if metric.better == "higher":
        return f"keeps less than the {100 * keep:.3g} % asked for"
    return f"has more than the {100 / keep:.4g} % asked for"


def _costs(comparison: Comparison, arm: str, baseline: str) -> str:
    """Parameters, memory and time as shares of the baseline's; what was not measured is left out."""
    rows = {row.arm: row for row in comparison.arms}
    row, full = rows[arm], rows[baseline]
    found = {c.quantity: c for c in comparison.costs if c.arm == arm and c.baseline == baseline}
    if not found and full.method != "full":
        return ""
    parts = []
    if row.parameters and full.parameters:
        share = 100 * row.parameters.trainable / full.parameters.trainable
        parts.append(f"{share:.{1 if share < 10 else 0}f} % of the trainable parameters")
    if "train_peak_bytes" in found:
        parts.append(f"{found['train_peak_bytes'].ratio.value:.2f}× the memory of a training step")
    if "train_seconds" in found:
        same = " of the same steps" if found["train_seconds"].steps is not None else ""
        parts.append(f"{_times(found['train_seconds'].ratio)} the training time{same}")
    if found and len(parts) > 1:
        parts[-1] += pair_text(next(iter(found.values())).unlike, comparison.unlike, arm, baseline)
    return listed(parts) if parts else ""


def _times(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}×"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def _busy(comparison: Comparison) -> list[str]:
    """That other programs were at work while an arm was trained, and what the ratios make of it."""
    said = [f"{busy_text(row, 'train')[2:]}." for row in comparison.arms if "train" in row.busy]
    if not said:
        return []
    disturbed = [c for c in comparison.costs if c.quantity == "train_seconds" and c.disturbed]
    return [*said, *(f"The ratio of {c.arm} to {c.baseline}: {disturbed_text(c, 'steps')}." for c in disturbed)]


def compared_text(d: PairedDifference, metric: Metric) -> str:
    """A pair of arms in words: which is better, or that it is not shown and what would have been found."""
    if d.p_holm <= SURE:
        better = (d.difference.value > 0) == (metric.better == "higher")
        one, other = (d.arm, d.other) if better else (d.other, d.arm)
        points = points_text(d.difference if better else turned(d.difference), metric)
        return f"{one} is better than {other} in {metric.label}: {points} (two-sided test, {p_text(d.p_holm)})."
    found = f"; a difference of {metric.shown(d.detectable, fewer=1)} {metric.unit} would be found in 80 % of cases"
    return (
        f"{d.arm} and {d.other} are not shown to differ in {metric.label}: {points_text(d.difference, metric)} "
        f"(two-sided test, {p_text(d.p_holm)}{found if d.detectable > 0 else ''})."
    )


def _one_score(evidence: Evidence, metric: Metric) -> float | None:
    """The score that every example of every arm has, where there is but one: the metric does not see these texts."""
    means = [own[metric.name] for own in evidence.means.values()]
    ends = {end for mean in means for end in (mean.low, mean.value, mean.high)}
    return ends.pop() if len(ends) == 1 and evidence.examples > 1 else None


def _same(group: Sequence[str], trained: set[str], examples: str) -> str | None:
    """That arms wrote the same; nothing of models none of which was trained."""
    moved, still = [arm for arm in group if arm in trained], [arm for arm in group if arm not in trained]
    if not moved:
        return None
    if still:
        return f"{listed(moved)} wrote exactly what {still[0]} wrote on all {examples}: training changed nothing."
    return f"{listed(moved)} wrote the same on all {examples}: there is no difference to judge."


def _scope(evidence: Evidence, examples: str) -> str:
    if len(evidence.seeds) == 1:
        return "One seed: this compares these checkpoints, not the methods in general."
    return f"Over {len(evidence.seeds)} seeds: the intervals include the spread over seeds and over {examples}."
