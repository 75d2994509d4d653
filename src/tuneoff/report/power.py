"""How many test examples a comparison needs, told before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuneoff.errors import MetricError
from tuneoff.folder import RunFolder
from tuneoff.recipe import KeepSpec, Recipe
from tuneoff.records import Record
from tuneoff.report.comparison import compare
from tuneoff.score.metrics import Metric, find_metric
from tuneoff.score.power import detectable_difference, examples_needed, provable_margin
from tuneoff.score.spread import Spread
from tuneoff.units import NONE

TYPICAL_NAME = "typical"
# By metric: the standard deviation over examples of the difference of two trained arms, and full fine-tuning's mean.
# Measured on demo-small (full fine-tuning and LoRA, 357 dialogues, one seed): docs/benchmarks.md.
TYPICAL = {"rouge1": (0.122, 0.437), "rouge2": (0.107, 0.171), "rougeL": (0.102, 0.322)}
COUNTS = (50, 100, 200, 500, 1000, 2000, 5000)


class PowerAt(Record):
    """What so many test examples can show in 80 % of cases, in the metric's figures.

    Attributes:
        examples: The number of test examples.
        detectable: The difference between two arms that is found.
        provable: The loss against full fine-tuning that can be ruled out for an arm that is as good.
    """

    examples: int
    detectable: float
    provable: float


class Power(Record):
    """What test sets of several sizes can show of a recipe's arms by its judged metric, with one seed.

    Attributes:
        metric: The judged metric.
        deviation: The standard deviation over examples of the difference of two trained arms, and `source`, where it is
            from.
        mean: The score that full fine-tuning is taken to have.
        margin: What an arm may lose by the recipe's `evaluation.keep`.
        needed: How many test examples rule out a loss of `margin`.
        own: How many the recipe has; None where its data cannot be read here.
        rows: What each number of examples can show, that of the recipe among them.
    """

    metric: str
    deviation: float
    source: str
    mean: float
    margin: float
    needed: int | None
    own: int | None
    rows: list[PowerAt]


def power_of(recipe: Recipe, like: str, own: int | None) -> Power:
    """The power of test sets for `recipe`, whose split that is scored has `own` examples.

    `like` is the folder of a finished run on similar data, whose spread is taken, or `typical`. Raises MetricError
    where the judged metric has no typical spread, and RunFolderError where `like` is no run.
    """
    metric = find_metric(recipe.evaluation.metrics[0])
    deviation, mean, source = _typical(metric) if like == TYPICAL_NAME else _measured(like, metric)
    spread = Spread(1, 0.0, 0.0, deviation**2)
    arms = list(recipe.arms.values())
    pairs = math.comb(len(arms), 2)
    judged = max(1, sum(arm.method not in ("none", "full") for arm in arms))
    keep = recipe.evaluation.keep
    share = 1 / keep - 1 if not isinstance(keep, KeepSpec) and metric.better == "lower" else None
    if isinstance(keep, KeepSpec):
        margin = keep.points / metric.scale
    else:
        margin = mean * (share if share is not None else 1 - keep)
    return Power(
        metric=metric.name,
        deviation=deviation,
        source=source,
        mean=mean,
        margin=margin,
        needed=examples_needed(spread, margin, judged),
        own=own,
        rows=[
            PowerAt(
                examples=count,
                detectable=detectable_difference(spread, count, max(1, pairs)),
                provable=provable_margin(spread, count, judged),
            )
            for count in sorted({*COUNTS, *([own] if own is not None else [])})
        ],
    )


def _typical(metric: Metric) -> tuple[float, float, str]:
    if metric.name not in TYPICAL:
        known = ", ".join(find_metric(name).label for name in TYPICAL)
        raise MetricError(
            f"no typical spread of {metric.label} is known, only of {known}: give a finished run on similar data, "
            "--power RUN"
        )
    deviation, mean = TYPICAL[metric.name]
    return deviation, mean, "typical: measured on the small demo, short dialogues with their summaries"


def _measured(run: str, metric: Metric) -> tuple[float, float, str]:
    """The largest spread of the differences of two trained arms of a run, and the mean score of the first of them."""
    comparison, arms = compare(RunFolder(Path(run)))
    if metric.name not in comparison.metrics:
        raise MetricError(
            f"{run} is not scored by {metric.label}: `tuneoff score {run} --metric {metric.name}` adds it"
        )
    values = {
        arm.name: np.array([metric.of_example(p.scores[metric.name]) for p in arm.predictions[arm.first.seed]])
        for arm in arms
        if arm.first is not None and arm.spec.trains
    }
    if len(values) < 2:
        raise MetricError(f"{run} has fewer than two trained arms that have finished: no difference of theirs is known")
    spreads = {(a, b): float((values[a] - values[b]).std(ddof=1)) for a, b in combinations(values, 2)}
    first, second = max(spreads, key=lambda pair: spreads[pair])
    baseline = next((arm.name for arm in arms if arm.name in values and arm.spec.method == "full"), first)
    told = f"measured in {run} on {len(values[first]):,} {comparison.words.examples} ({first} and {second})"
    return spreads[first, second], float(values[baseline].mean()), told


def print_power(power: Power, recipe: Recipe, console: Console) -> None:
    """The table and what follows from it, at 80 columns."""
    metric, examples = find_metric(power.metric), recipe.words.examples
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for head in (f"test {examples}", "difference that is found", "loss that is ruled out"):
        table.add_column(head, justify="right")
    for row in power.rows:
        here = row.examples == power.own
        table.add_row(
            f"{'this recipe: ' if here else ''}{row.examples:,}",
            f"{metric.shown(row.detectable, fewer=1)} {metric.unit}",
            f"{metric.shown(row.provable, fewer=1)} {metric.unit}",
            style="bold" if here else None,
        )
    console.print(table)
    grouped = [
        f"{examples} of one {recipe.data.group!r} depend on each other, and are worth fewer than these counts say"
    ]
    for note in [*_notes(power, metric, examples), *(grouped if recipe.data.group is not None else [])]:
        console.print(Padding(Text(note), (0, 0, 0, 1)))


def _notes(power: Power, metric: Metric, examples: str) -> Sequence[str]:
    margin = f"{metric.shown(power.margin, fewer=1)} {metric.unit}"
    mean = metric.shown(power.mean, fewer=1)
    needed = f"{power.needed:,} {examples}" if power.needed is not None else NONE
    return [
        f"{metric.label}, one seed, in 80 % of cases: the true difference between two arms that a two-sided test "
        "finds, and the loss against full fine-tuning that is ruled out for an arm that is just as good",
        f"the margin of this recipe (evaluation.keep), {margin} where full fine-tuning has {mean}, needs {needed}",
        f"spread: {metric.shown(power.deviation, fewer=1)} {metric.unit} (standard deviation of the difference over "
        f"{examples}), {power.source}",
    ]
