"""The report's sections of charts, each left out where the run has nothing to show in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tuneoff.recipe import Words
from tuneoff.records import TrialResult, read_history
from tuneoff.report.alike import unlike_sentence
from tuneoff.report.arms import Arm
from tuneoff.report.charts import Curve, distributions, learning, paired, stacked
from tuneoff.report.comparison import Comparison
from tuneoff.report.page.cost_section import cost_section
from tuneoff.report.page.section import Section
from tuneoff.report.page.update_sections import update_sections
from tuneoff.score.metrics import Metric, find_metric
from tuneoff.units import bytes_text, count_text, duration_text

PAIRS = 12  # charts of paired differences, at most
PARTS = ("weights", "gradients", "optimizer", "activations", "temporary", "buffers", "process")
PHASES = ("load", "tokenise", "train", "validate", "save", "evaluate", "score")


def sections(arms: Sequence[Arm], comparison: Comparison) -> list[Section]:
    """Quality against cost, learning, memory, time, scores by example, paired differences; learnt and forgotten."""
    colours = {row.arm: n % 8 for n, row in enumerate(comparison.arms)}
    finished = {arm.name: arm.first for arm in arms if arm.first}
    metric = find_metric(comparison.metrics[0])
    scores = {
        arm.name: [metric.of_example(p.scores[metric.name]) for p in arm.predictions[arm.first.seed]]
        for arm in arms
        if arm.first
    }
    made = [
        cost_section(comparison, colours),
        _learning(arms, colours),
        _memory(arms),
        _time(finished, comparison),
        _spread(scores, metric, comparison.words),
        _pairs(scores, metric, comparison, colours),
    ]
    return [section for section in made if section.charts] + update_sections(arms, comparison)


def _learning(arms: Sequence[Arm], colours: Mapping[str, int]) -> Section:
    by_step, by_time, by_updates = (
        [c for arm in arms if (c := _curve(arm, colours, x))] for x in (_step, _seconds, _updates)
    )
    charts = []
    if by_step:
        charts = [
            learning(by_step, "optimizer steps", lambda v: f"{v:g}"),
            learning(by_time, "seconds of training", lambda v: f"{v:g}"),
            learning(by_updates, "weights updated: steps × trainable parameters", count_text, log=True),
        ]
    words = "Lines: training loss. Dots: loss on the validation split."
    return Section("Learning", words, charts, key={curve.arm: curve.colour for curve in by_step})


def _curve(
    arm: Arm, colours: Mapping[str, int], x: Callable[[Mapping[str, float], TrialResult], float]
) -> Curve | None:
    """An arm's losses at its first finished seed, by the x of a line of its history; None where it has none."""
    if arm.first is None or arm.first_folder is None:
        return None
    history = read_history(arm.first_folder.history)
    result = arm.first
    train, validation = (
        [(x(line, result), line[kind]) for line in history if kind in line] for kind in ("loss", "eval_loss")
    )
    steps = [line["step"] for line in history if "eval_loss" in line]
    kept = result.training.kept if result.training is not None else None
    place = steps.index(kept.step) if kept is not None and kept.step in steps else None
    return Curve(arm.name, colours[arm.name], train, validation, place) if train else None


def _step(line: Mapping[str, float], _: TrialResult) -> float:
    return line["step"]


def _seconds(line: Mapping[str, float], _: TrialResult) -> float:
    return line["train_seconds"]


def _updates(line: Mapping[str, float], result: TrialResult) -> float:
    assert result.parameters is not None
    return line["step"] * result.parameters.trainable


def _memory(arms: Sequence[Arm]) -> Section:
    bars: dict[str, dict[str, float]] = {}
    for arm in arms:
        memory = arm.first.memory if arm.first else None
        if arm.planned and arm.planned.longest:
            bars[f"{arm.name} (plan)"] = _floats(arm.planned.longest.components)
        if memory and memory.train and memory.train.components:
            tensors, peak = _floats(memory.train.components), memory.train.peak
            bars[arm.name] = {**tensors, "process": max(0.0, (peak or 0.0) - sum(tensors.values()))}
    words = (
        "At the peak of a step on the largest batch: the tensors alive, by what they are for, and what the process "
        "holds besides. (plan): predicted before anything was trained."
    )
    charts = [stacked(bars, PARTS, "Memory of a training step, by what it is for", bytes_text)] if bars else []
    return Section("Memory of a training step", words, charts, wide=True)


def _floats(components: Mapping[str, int]) -> dict[str, float]:
    return {part: float(size) for part, size in components.items()}


def _time(results: Mapping[str, TrialResult], comparison: Comparison) -> Section:
    bars = {
        arm: {phase: result.seconds[phase] for phase in PHASES if result.seconds.get(phase)}
        for arm, result in results.items()
        if result.seconds
    }
    words = "Wall-clock time of each phase of the first seed. Measuring memory and checking the trial are left out."
    charts = [stacked(bars, PHASES, "Time by phase", duration_text)] if bars else []
    return Section("Time by phase", words + unlike_sentence(comparison.unlike), charts, wide=True)


def _spread(scores: Mapping[str, list[float]], metric: Metric, words: Words) -> Section:
    told = f"On how many {words.examples} each arm scores how high."
    charts = [distributions(scores, metric, words)] if scores else []
    return Section("Scores by example", told, charts, wide=True)


def _pairs(
    scores: Mapping[str, list[float]], metric: Metric, comparison: Comparison, colours: Mapping[str, int]
) -> Section:
    found = comparison.evidence.differences if comparison.evidence else []
    charts = []
    for d in [d for d in found if d.metric == metric.name][:PAIRS]:
        differences = [a - b for a, b in zip(scores[d.arm], scores[d.other], strict=True)]
        charts.append(paired(differences, metric, comparison.words, d, colours[d.arm]))
    above = "the mean difference" if metric.corpus is None else "the difference of all texts together"
    words = f"How two arms differ on each {comparison.words.example}. Above: {above} with its 95 % interval."
    return Section("Paired differences", words, charts)
