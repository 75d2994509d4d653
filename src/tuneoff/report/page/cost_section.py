"""The report's section on quality against cost: every metric against every cost, and all of it in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuneoff.records import Interval
from tuneoff.report.alike import unlike_sentence
from tuneoff.report.chart import Chart, Choice, Table
from tuneoff.report.charts import Cost, against_cost
from tuneoff.report.comparison import ArmRow, Comparison
from tuneoff.report.page.section import Section
from tuneoff.report.svg import Format
from tuneoff.score.metrics import Metric, find_metrics
from tuneoff.units import NONE, bytes_text, count_text, duration_text


@dataclass(frozen=True)
class _Axis:
    """A cost: what it is called, how it is written, the arm's own, and the unit in which its axis is round.

    The axis is logarithmic where `unit` is None.
    """

    label: str
    form: Format
    cost: Callable[[ArmRow], float | None]
    unit: Callable[[float], float] | None


def _bytes_unit(largest: float) -> float:
    return 2.0**30 if largest >= 2**31 else 2.0**20


def _seconds_unit(largest: float) -> float:
    return 60.0 if largest >= 120 else 1.0


AXES = (
    _Axis("trainable parameters", count_text, lambda row: row.parameters.trainable if row.parameters else None, None),
    _Axis("peak memory of training", bytes_text, lambda row: row.train_peak_bytes, _bytes_unit),
    _Axis("training time", duration_text, lambda row: row.train_seconds, _seconds_unit),
    _Axis("peak memory of generation", bytes_text, lambda row: row.generate_peak_bytes, _bytes_unit),
    _Axis("generation time", duration_text, lambda row: row.generate_seconds, _seconds_unit),
)


def cost_section(comparison: Comparison, colours: Mapping[str, int]) -> Section:
    """A chart of each metric against each cost, of which the reader chooses, and the sortable table of them all."""
    metrics = find_metrics(comparison.metrics)
    means = comparison.evidence.means if comparison.evidence else {}
    rows = [row for row in comparison.arms if row.arm in means]
    charts = [chart for metric in metrics for axis in AXES if (chart := _chart(rows, means, metric, axis, colours))]
    better = {"higher": "Up", "lower": "Down"}[metrics[0].better]
    words = (
        f"{better} is better for {metrics[0].label}, left is cheaper. Lines: 95 % intervals. The original model costs "
        "no training, and stands in the table alone."
    )
    tables = [_table(rows, means, metrics)] if charts else []
    return Section("Quality against cost", words + unlike_sentence(comparison.unlike), charts, tables)


def _chart(
    rows: list[ArmRow],
    means: Mapping[str, Mapping[str, Interval]],
    metric: Metric,
    axis: _Axis,
    colours: Mapping[str, int],
) -> Chart | None:
    costs = {row.arm: cost for row in rows if row.method != "none" and (cost := axis.cost(row))}
    if not costs:
        return None
    points = [Cost(arm, colours[arm], cost, means[arm][metric.name]) for arm, cost in costs.items()]
    unit = axis.unit(max(costs.values())) if axis.unit is not None else None
    drawn = against_cost(points, metric, axis.label, axis.form, unit)
    return Chart(drawn.drawing, drawn.table, Choice(across=axis.label, up=metric.label))


def _table(rows: list[ArmRow], means: Mapping[str, Mapping[str, Interval]], metrics: list[Metric]) -> Table:
    cells, keys = [], []
    for row in rows:
        costs = [axis.cost(row) for axis in AXES]
        scores = [means[row.arm][metric.name] for metric in metrics]
        shown = [axis.form(cost) if cost is not None else NONE for axis, cost in zip(AXES, costs, strict=True)]
        told = [
            f"{metric.shown(score.value)} [{metric.shown(score.low)}, {metric.shown(score.high)}]"
            for metric, score in zip(metrics, scores, strict=True)
        ]
        cells.append([row.arm, *told, *shown])
        keys.append([*(score.value for score in scores), *costs])
    heads = ["arm", *(metric.label for metric in metrics), *(axis.label for axis in AXES)]
    return Table("Scores with their 95 % intervals, and costs", heads, cells, open=True, keys=keys)
