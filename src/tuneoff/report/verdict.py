"""The verdict in words: what the evidence supports, and no more."""

from __future__ import annotations

from tuneoff.records import Interval
from tuneoff.report.alike import pair_text
from tuneoff.report.comparison import Comparison
from tuneoff.report.cost_table import busy_text, disturbed_text
from tuneoff.report.forgotten import forgotten_sentences
from tuneoff.score.evidence import Evidence, NonInferiority, PairedDifference
from tuneoff.score.metrics import Metric, find_metric
from tuneoff.score.ratios import Ratio

SURE = 0.05


def verdict(comparison: Comparison) -> list[str]:
    """Sentences, the most important first; empty where nothing can be judged yet."""
    if comparison.scored_differently is not None:
        return [f"No verdict: {comparison.scored_differently}."]
    evidence = comparison.evidence
    if evidence is None or len(evidence.means) < 2:
        return []
    rows = {row.arm: row for row in comparison.arms}
    original = next((row.arm for row in comparison.arms if row.method == "none" and row.arm in evidence.means), None)
    metric = find_metric(comparison.metrics[0])
    blind = _one_score(evidence, metric)
    if blind is not None:
        shown, examples = metric.shown(blind), comparison.words.example
        return [f"No verdict: {metric.label} is {shown} for every {examples} of every arm, and tells none apart."]
    same = comparison.same_outputs if metric.by_text else []  # models differ, though they may write the same
    said = [_same(group, original, f"{evidence.examples:,} {comparison.words.examples}") for group in same]
    judged = [j for j in evidence.non_inferiority if j.metric == metric.name and not _among(same, j.arm, j.baseline)]
    idle = {arm for group in same if original in group for arm in group}
    said += [_kept(j, metric, comparison, evidence) for j in judged if j.arm not in idle]
    if judged and original is not None:
        said += _gain(judged[0].baseline, original, metric, evidence)
    elif not judged:
        pairs = (d for d in evidence.differences if d.metric == metric.name)
        said += [_compared(d, metric) for d in pairs if not _among(same, d.arm, d.other)]
    if judged:
        said += _busy(comparison)
    if said and comparison.forgotten is not None:
        said += forgotten_sentences(comparison.forgotten, judged[0].baseline if judged else None)
    if said and any(rows[arm].method != "none" for arm in evidence.means):
        said.append(_scope(evidence, comparison.words.examples))
    return said


def _kept(judged: NonInferiority, metric: Metric, comparison: Comparison, evidence: Evidence) -> str:
    margin, examples = _margin(judged, metric), comparison.words.examples
    if judged.holds:
        shown = f"shown to be within the {margin} (p {_p(judged.p_holm)})"
    elif judged.misses:
        shown = f"it loses more than the {margin}" if judged.keep is None else f"it {_misses(judged.keep, metric)}"
    else:
        needed = (
            f"{judged.examples_needed:,} would be needed"
            if judged.examples_needed is not None
            else f"more {examples} would not be enough with {len(evidence.seeds)} seeds: more seeds would be needed"
        )
        shown = (
            f"not shown to be within the {margin}: {evidence.examples:,} {examples} could show "
            f"{metric.shown(judged.provable, fewer=1)} {metric.unit}, and {needed}"
        )
    costs = _costs(comparison, judged.arm, judged.baseline)
    at = f" at {costs}" if costs else ""
    has = "keeps" if metric.better == "higher" else "has"
    return f"{judged.arm} {has} {_percent(judged.kept)} of {judged.baseline}'s {metric.label}{at}; {shown}."


def _margin(judged: NonInferiority, metric: Metric) -> str:
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
    parts = []
    if row.parameters and full.parameters:
        share = 100 * row.parameters.trainable / full.parameters.trainable
        parts.append(f"{share:.{1 if share < 10 else 0}f} % of the trainable parameters")
    found = {c.quantity: c for c in comparison.costs if c.arm == arm and c.baseline == baseline}
    if "train_peak_bytes" in found:
        parts.append(f"{found['train_peak_bytes'].ratio.value:.2f}× the memory of a training step")
    if "train_seconds" in found:
        same = " of the same steps" if found["train_seconds"].steps is not None else ""
        parts.append(f"{_times(found['train_seconds'].ratio)} the training time{same}")
    if found and len(parts) > 1:
        parts[-1] += pair_text(next(iter(found.values())).unlike, comparison.unlike, arm, baseline)
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


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


def _gain(baseline: str, original: str, metric: Metric, evidence: Evidence) -> list[str]:
    """What full fine-tuning gained itself, and the others' shares; where it has not, to keep its score is no merit."""
    gain = next(d for d in evidence.differences if d.metric == metric.name and {d.arm, d.other} == {baseline, original})
    points = gain.difference if gain.arm == baseline else _turned(gain.difference)
    if gain.p_holm > SURE:
        shown = _points(points, metric)
        return [f"{baseline} is not shown to be better than {original} ({shown}): keeping its score says little."]
    if (points.value < 0) == (metric.better == "higher"):
        shown = _points(points, metric)
        return [f"{baseline} is worse than {original} ({shown}): keeping its score is no merit."]
    gained = [
        f"{j.arm} has {_percent(j.gained)}"
        for j in evidence.non_inferiority
        if j.metric == metric.name and j.gained is not None
    ]
    of_it = f" Of this gain {', '.join(gained)}." if gained else ""
    if metric.better == "lower":
        return [f"{baseline} changes {metric.label} by {_points(points, metric)} from {original}'s.{of_it}"]
    return [f"{baseline} gains {_points(points, metric)} {metric.label} over {original}.{of_it}"]


def _compared(d: PairedDifference, metric: Metric) -> str:
    if d.p_holm <= SURE:
        return f"{d.arm} differs from {d.other} by {_points(d.difference, metric)} {metric.label} (p {_p(d.p_holm)})."
    found = f"; a difference of {metric.shown(d.detectable, fewer=1)} {metric.unit} would be found in 80 % of cases"
    return (
        f"{d.arm} and {d.other} are not shown to differ in {metric.label} ({_points(d.difference, metric)}, "
        f"p {_p(d.p_holm)}{found if d.detectable > 0 else ''})."
    )


def _one_score(evidence: Evidence, metric: Metric) -> float | None:
    """The score that every example of every arm has, where there is but one: the metric does not see these texts."""
    means = [own[metric.name] for own in evidence.means.values()]
    ends = {end for mean in means for end in (mean.low, mean.value, mean.high)}
    return ends.pop() if len(ends) == 1 and evidence.examples > 1 else None


def _same(group: list[str], original: str | None, examples: str) -> str:
    others = [arm for arm in group if arm != original]
    if original in group:
        return (
            f"{' and '.join(others)} wrote exactly what {original} wrote on all {examples}: "
            "what was trained changes nothing."
        )
    names = " and ".join(others)
    return f"{names} wrote the same on all {examples}: there is no difference to judge."


def _among(groups: list[list[str]], arm: str, other: str) -> bool:
    """Whether one of the groups has both arms."""
    return any(arm in group and other in group for group in groups)


def _scope(evidence: Evidence, examples: str) -> str:
    if len(evidence.seeds) == 1:
        return "One seed: this speaks of these checkpoints, not of the methods."
    return f"Over {len(evidence.seeds)} seeds; intervals hold the spread over seeds and over {examples}."


def _turned(interval: Interval) -> Interval:
    return Interval(value=-interval.value, low=-interval.high, high=-interval.low)


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _points(difference: Interval, metric: Metric) -> str:
    value, low, high = (
        metric.shown(x, fewer=1, sign=True) for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} {metric.unit} [{low}, {high}]"


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"
