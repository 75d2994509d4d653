"""The report's sections on what was learnt, and on what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff.report.arms import Arm
from tuneoff.report.chart import Table
from tuneoff.report.comparison import Comparison
from tuneoff.report.diagnosis import HEADER, kind_rows, overlap_text
from tuneoff.report.forgotten import texts_words
from tuneoff.report.learnt import advice
from tuneoff.report.page.section import Section
from tuneoff.report.update_charts import energy_by_rank, gain_by_rank, loss_by_scale, norm_by_layer, score_by_forgetting
from tuneoff.score.metrics import find_metric


def update_sections(arms: Sequence[Arm], comparison: Comparison) -> list[Section]:
    """Both, each left out where the run was not diagnosed."""
    colours = {row.arm: n % 8 for n, row in enumerate(comparison.arms)}
    made = [_learnt(arms, comparison, colours), _forgotten(comparison, colours)]
    return [section for section in made if section.charts or section.tables]


def _learnt(arms: Sequence[Arm], comparison: Comparison, colours: Mapping[str, int]) -> Section:
    curves = comparison.learnt
    words = [sentence for one in curves for sentence in advice(one)]
    words += [f"{one.arm}: {one.refused}." for one in curves if one.refused is not None]
    for arm in arms:
        overlap = overlap_text(next(iter(arm.diagnoses.values()))) if arm.diagnoses else None
        words += [f"{arm.name}: {overlap}."] if overlap is not None else []
    charts = []
    held = [one for one in curves if one.energy]
    if held:
        words.insert(0, "Δ is what training added to each weight matrix.")
        charts.append(energy_by_rank(held, colours))
    if any(cut.kept is not None for one in curves for cut in one.cuts):
        charts.append(gain_by_rank(curves, colours))
    layered = [one for one in curves if len(one.layers) > 1]
    if layered:
        charts.append(norm_by_layer(layered, colours))
    tables = [
        Table(f"{arm.name} at seed {seed}: medians by kind of matrix", list(HEADER), kind_rows(diagnosis))
        for arm in arms
        for seed, diagnosis in list(arm.diagnoses.items())[:1]
        if diagnosis.modules
    ]
    return Section(
        "What was learnt", " ".join(words), charts, tables, key={one.arm: colours[one.arm] for one in curves}
    )


def _forgotten(comparison: Comparison, colours: Mapping[str, int]) -> Section:
    found, charts = comparison.forgotten, []
    if found is None:
        return Section("What was forgotten", "", [], [])
    words = f"By the loss on {texts_words(found.texts)}."
    if comparison.evidence is not None:
        metric = find_metric(comparison.metrics[0])
        means = comparison.evidence.means
        scores = {row.arm: means[row.arm][metric.name] for row in comparison.arms if row.arm in means}
        charts.append(score_by_forgetting(found, scores, metric, colours))
    moved = [one for one in comparison.learnt if len(one.scales) > 2 and one.examples > 1]
    if moved:
        most = max(point.scale for one in moved for point in one.scales)
        words += f" As an update is scaled from 0 (the original model; 1 is the arm) to {most:g}, both losses move."
        charts.append(loss_by_scale(moved, colours))
    kinds = list(dict.fromkeys(found.texts.kinds))
    rows = [(arm, *(f"{own[kind]:+.3f}" for kind in kinds)) for arm, own in found.by_kind.items()]
    tables = [Table("Rise of the loss by kind of text, nats per token", ["arm", *kinds], rows, open=True)]
    if found.scores:
        metrics = [find_metric(name) for name in found.scores[found.original]]
        answers = [(arm, *(m.shown(own[m.name]) for m in metrics)) for arm, own in found.scores.items()]
        count = found.texts.conditioned.count("target")
        caption = f"What was written for the {count} retained inputs that have a target"
        tables.append(Table(caption, ["arm", *(metric.label for metric in metrics)], answers, open=True))
    key = {arm: colours[arm] for arm in [found.original, *found.by_kind] if arm in colours}
    return Section("What was forgotten", words, charts, tables, key=key)
