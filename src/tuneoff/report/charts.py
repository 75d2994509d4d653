"""The report's charts. Arms keep one colour throughout: class `cN` for the N-th arm of the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

from tuneoff.recipe import Words
from tuneoff.records import Interval
from tuneoff.report.chart import Chart, Table
from tuneoff.report.svg import Axis, Drawing, Format, around
from tuneoff.score.evidence import PairedDifference
from tuneoff.score.metrics import Metric

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420.0, 300.0, 46.0, 12.0, 26.0, 44.0
NEAR, LETTER = 50.0, 7.0  # pixels: between points whose names would meet; of a letter, at most


@dataclass(frozen=True)
class Cost:
    """One arm: what it costs, and its score with its interval."""

    arm: str
    colour: int
    cost: float
    score: Interval


def against_cost(points: Sequence[Cost], metric: Metric, label: str, form: Format, unit: float | None) -> Chart:
    """The score by `metric` against a cost, with intervals: the best arms lie to the left, on the metric's better side.

    The cost's axis is logarithmic where it has no `unit` to be round in.
    """
    rows = [(p.arm, form(p.cost), metric.shown(p.score.value), _ends(p.score, metric)) for p in points]
    table = Table(f"{metric.label} against {label}", ["arm", label, metric.label, "95 % interval"], rows)
    drawing, scale = Drawing(WIDTH, HEIGHT, table.caption, table.told), metric.scale
    costs = [p.cost for p in points]
    x = around(costs, LEFT, WIDTH - RIGHT - 30, log=unit is None, zero=True, unit=unit or 1.0)
    bounds = [scale * bound for p in points for bound in (p.score.low, p.score.high)]
    y = around(bounds, HEIGHT - BOTTOM, TOP)
    drawing.upright(y, LEFT, WIDTH - RIGHT, metric.label, lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, label, form)
    for p in points:
        at = x.at(p.cost)
        drawing.line(at, y.at(scale * p.score.low), at, y.at(scale * p.score.high), f"s{p.colour}")
        value, low, high = (metric.shown(end, fewer=1) for end in (p.score.value, p.score.low, p.score.high))
        hint = f"{p.arm}: {value} [{low}, {high}], {form(p.cost)}"
        drawing.dot(at, y.at(scale * p.score.value), f"c{p.colour}", hint)
        left = _label_left(at, p.arm, [x.at(other.cost) for other in points if other is not p])
        drawing.text(at + (-9 if left else 9), y.at(scale * p.score.value) - 7, p.arm, "", "end" if left else "start")
    return Chart(drawing.markup(), table)


def _ends(interval: Interval, metric: Metric) -> str:
    return f"[{metric.shown(interval.low)}, {metric.shown(interval.high)}]"


def _label_left(at: float, arm: str, others: Sequence[float]) -> bool:
    """Whether the name of a point at `at` goes to its left: away from a neighbour, and where there is room."""
    near = [other - at for other in others if 0 < abs(other - at) < NEAR]
    if at + 9 + LETTER * len(arm) > WIDTH or at - 9 - LETTER * len(arm) < 0:
        return at > WIDTH / 2
    return min(near, key=abs) > 0 if near else at > WIDTH * 0.6


@dataclass(frozen=True)
class Curve:
    """One arm's losses: (x, nats per token) while training, and on the validation split.

    `kept` is the place in `validation` of the weights that were kept, where they are not simply the last.
    """

    arm: str
    colour: int
    train: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]]
    kept: int | None = None


def learning(curves: Sequence[Curve], label: str, form: Format, *, log: bool = False) -> Chart:
    """Loss by steps, by time or by weights updated: training as lines, validation as dots."""
    table = Table(f"Loss by {label}", ["arm and loss", label, "nats per token"], list(_losses(curves, form)))
    drawing = Drawing(WIDTH, HEIGHT, table.caption, table.told)
    every = [point for c in curves for point in (*c.train, *c.validation)]
    x = Axis(0.0, max(a for a, _ in every) or 1.0, LEFT, WIDTH - RIGHT)
    if log:
        x = around([a for a, _ in every], LEFT, WIDTH - RIGHT, log=True)
    y = around([b for _, b in every], HEIGHT - BOTTOM, TOP)
    drawing.upright(y, LEFT, WIDTH - RIGHT, "loss, nats per target token", lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, label, form)
    for c in curves:
        if c.train:
            drawing.path([(x.at(a), y.at(b)) for a, b in c.train], f"s{c.colour}")
        for a, b in c.validation:
            drawing.dot(x.at(a), y.at(b), f"c{c.colour}", f"{c.arm}, validation: {b:.3f} at {form(a)}")
        if c.kept is not None:
            a, b = c.validation[c.kept]
            drawing.text(x.at(a), y.at(b) - 9, "kept", "tick", "middle")
    return Chart(drawing.markup(), table)


def _losses(curves: Sequence[Curve], form: Format) -> Iterator[tuple[str, ...]]:
    """The first and the last training loss of each arm, and every loss on the validation split."""
    for c in curves:
        for at, loss in dict.fromkeys([c.train[0], c.train[-1]] if c.train else []):
            yield f"{c.arm}, training", form(at), f"{loss:.3f}"
        for n, (at, loss) in enumerate(c.validation):
            yield f"{c.arm}, validation", form(at), f"{loss:.3f}{' (kept)' if n == c.kept else ''}"


def stacked(bars: Mapping[str, Mapping[str, float]], parts: Sequence[str], title: str, form: Format) -> Chart:
    """One bar an arm, of what it has of `parts` in their order; the N-th is coloured `pN`."""
    parts = [part for part in parts if any(bar.get(part) for bar in bars.values())]
    left, row, top, width = 110.0, 34.0, 26.0, 2 * WIDTH
    rows = [(arm, *(form(bar.get(part, 0.0)) for part in parts), form(sum(bar.values()))) for arm, bar in bars.items()]
    table = Table(title, ["arm", *parts, "in all"], rows)
    drawing = Drawing(width, top + row * len(bars), title, table.told)
    x = Axis(0.0, max(sum(bar.values()) for bar in bars.values()) or 1.0, left, width - 90)
    for n, part in enumerate(parts):
        drawing.bar(left + n * 112, 3, 10, 10, f"p{n}", part)
        drawing.text(left + n * 112 + 14, 12, part, "tick")
    for n, (arm, bar) in enumerate(bars.items()):
        y, done = top + n * row, 0.0
        drawing.text(left - 8, y + row / 2 + 2, _short(arm), "", "end")
        for k, part in enumerate(parts):
            size = bar.get(part, 0.0)
            hint = f"{arm}, {part}: {form(size)}"
            drawing.bar(x.at(done), y + 5, x.at(done + size) - x.at(done), row - 12, f"p{k}", hint)
            done += size
        drawing.text(x.at(done) + 6, y + row / 2 + 2, form(done), "tick")
    return Chart(drawing.markup(), table)


def distributions(scores: Mapping[str, Sequence[float]], metric: Metric, words: Words) -> Chart:
    """How each arm's scores spread over the examples: a histogram a row, its mean marked."""
    left, row, bins = 110.0, 58.0, 40
    width = 2 * WIDTH
    heads = ["arm", "lowest", "25 %", "median", "75 %", "highest", "mean"]
    table = Table(
        f"{metric.label} by {words.example}", heads, [_quartiles(arm, v, metric) for arm, v in scores.items()]
    )
    drawing = Drawing(width, row * len(scores) + 44, table.caption, table.told)
    most = 1.0 if metric.scale == 100 else max((max(values) for values in scores.values()), default=0.0) or 1.0
    top = metric.scale * most
    x = Axis(0.0, top, left, width - RIGHT)
    for n, (arm, values) in enumerate(scores.items()):
        base = row * (n + 1)
        counts = [0] * bins
        for value in values:
            counts[min(bins - 1, int(value / most * bins))] += 1
        drawing.text(left - 8, base - 8, _short(arm), "", "end")
        for k, count in enumerate(counts):
            start, end = x.at(top * k / bins), x.at(top * (k + 1) / bins)
            height = (row - 12) * count / max(counts)
            hint = f"{arm}: {count} {words.examples} from {top * k / bins:.3g} to {top * (k + 1) / bins:.3g}"
            drawing.bar(start + 0.5, base - height, end - start - 1, height, f"c{n}", hint)
        if metric.corpus is None:
            mean = x.at(metric.scale * sum(values) / len(values))
            drawing.line(mean, base - row + 10, mean, base, "mean")
    line = " (line: mean)" if metric.corpus is None else ", of each text alone"
    drawing.across(x, row * len(scores) + 2, f"{metric.label} by {words.example}{line}", lambda v: f"{v:g}")
    return Chart(drawing.markup(), table)


def _quartiles(arm: str, values: Sequence[float], metric: Metric) -> tuple[str, ...]:
    cuts = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return arm, *(metric.shown(value) for value in (min(values), *cuts, max(values), sum(values) / len(values)))


def paired(differences: Sequence[float], metric: Metric, words: Words, mean: PairedDifference, colour: int) -> Chart:
    """How an arm's score differs from another's, example by example; the mean with its interval above."""
    arm, other, interval = mean.arm, mean.other, mean.difference
    scale = metric.scale
    bins, edge = 31, scale * max(0.05, *(abs(d) for d in differences))
    better = [d > 0 if metric.better == "higher" else d < 0 for d in differences]
    counted = [sum(better), sum(d == 0 for d in differences)]
    counted.append(len(differences) - sum(counted))
    shown = metric.shown(interval.value, sign=True), _ends(interval, metric)
    heads = ["pair", "mean difference", "95 % interval", f"{words.examples} better", "equal", "worse"]
    table = Table(f"{arm} minus {other}, by {words.example}", heads, [(f"{arm} − {other}", *shown, *map(str, counted))])
    drawing = Drawing(WIDTH, 220, table.caption, table.told)
    x = Axis(-edge, edge, 14, WIDTH - 14)
    counts = [0] * bins
    for d in differences:
        counts[min(bins - 1, int((scale * d + edge) / (2 * edge) * bins))] += 1
    base, room = 176.0, 120.0
    for k, count in enumerate(counts):
        start, end = (x.at(-edge + 2 * edge * n / bins) for n in (k, k + 1))
        height = room * count / max(counts)
        drawing.bar(start + 0.5, base - height, end - start - 1, height, f"c{colour}", f"{count} {words.examples}")
    drawing.line(x.at(0), 36, x.at(0), base, "mean")
    low, high = x.at(scale * interval.low), x.at(scale * interval.high)
    drawing.line(low, 30, high, 30, f"s{colour} thick")
    drawing.dot(x.at(scale * interval.value), 30, f"c{colour}", "mean with its 95 % interval")
    drawing.text(14, 14, f"{arm} − {other}", "label")
    drawing.across(x, base, f"{metric.unit} of {metric.label}", lambda v: f"{v:+g}" if v else "0")
    return Chart(drawing.markup(), table)


def _short(arm: str) -> str:
    return arm if len(arm) <= 14 else f"{arm[:13]}…"
