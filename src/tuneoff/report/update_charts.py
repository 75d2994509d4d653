"""The report's charts of updates: which rank holds them, what a part of them is worth, what they cost in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff.records import Interval
from tuneoff.report.chart import Chart, Table
from tuneoff.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from tuneoff.report.forgotten import Forgotten
from tuneoff.report.learnt import UpdateCurves
from tuneoff.report.svg import Axis, Drawing, around
from tuneoff.score.metrics import Metric
from tuneoff.units import NONE

LABELS = 12  # of layers, at most, below an axis
NAMED = (
    3  # trained arms, at most, whose points have words beside them; of more the key above the charts tells them apart
)
FORGOTTEN = "forgotten: loss on other texts, nats per token"


def energy_by_rank(curves: Sequence[UpdateCurves], colours: Mapping[str, int]) -> Chart:
    """The share of ‖Δ‖² that each rank holds, a line an arm."""
    ranks = sorted({rank for one in curves for rank in one.energy})
    rows = [(one.arm, *(f"{100 * one.energy[r]:.1f} %" if r in one.energy else NONE for r in ranks)) for one in curves]
    table = Table("Share of the update that a rank holds", ["arm", *(f"rank {rank}" for rank in ranks)], rows)
    drawing = Drawing(WIDTH, HEIGHT, table.caption, table.told)
    x = _ranks([rank for one in curves for rank in one.energy])
    y = Axis(0.0, 100.0, HEIGHT - BOTTOM, TOP)
    drawing.upright(y, LEFT, WIDTH - RIGHT, "% of ‖Δ‖²", lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, "rank of every matrix", lambda v: f"{v:g}", _every(curves))
    for one in curves:
        colour = colours[one.arm]
        drawing.path([(x.at(rank), y.at(100 * held)) for rank, held in one.energy.items()], f"s{colour}")
        for rank, held in one.energy.items():
            drawing.dot(x.at(rank), y.at(100 * held), f"c{colour}", f"{one.arm}, rank {rank}: {100 * held:.1f} %")
    return Chart(drawing.markup(), table)


def gain_by_rank(curves: Sequence[UpdateCurves], colours: Mapping[str, int]) -> Chart:
    """What an update cut to a rank keeps of its gain in validation loss, with intervals."""
    points = [(one.arm, cut.rank, cut.kept) for one in curves for cut in one.cuts if cut.kept is not None]
    rows = [(f"{arm}, rank {rank}", f"{100 * kept.value:.1f} %", _ends(kept, 100, ".1f")) for arm, rank, kept in points]
    caption = "Share of the gain that is kept when the update is cut to a rank"
    table = Table(caption, ["cut", "of the gain", "95 % interval"], rows)
    drawing = Drawing(WIDTH, HEIGHT, caption, table.told)
    x = _ranks([rank for _, rank, _ in points])
    y = around(
        [0.0, 100.0, *(100 * end for _, _, kept in points for end in (kept.low, kept.high))], HEIGHT - BOTTOM, TOP
    )
    drawing.upright(y, LEFT, WIDTH - RIGHT, "% of the gain in validation loss", lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, "cut to rank", lambda v: f"{v:g}", sorted({rank for _, rank, _ in points}))
    drawing.line(LEFT, y.at(100), WIDTH - RIGHT, y.at(100), "mean")
    for arm in dict.fromkeys(arm for arm, _, _ in points):
        colour, own = colours[arm], [(rank, kept) for name, rank, kept in points if name == arm]
        drawing.path([(x.at(rank), y.at(100 * kept.value)) for rank, kept in own], f"s{colour}")
        for rank, kept in own:
            _whisker(drawing, x.at(rank), y, kept, 100, colour)
            hint = f"{arm} cut to rank {rank}: {100 * kept.value:.1f} % [{100 * kept.low:.1f}, {100 * kept.high:.1f}]"
            drawing.dot(x.at(rank), y.at(100 * kept.value), f"c{colour}", hint)
    return Chart(drawing.markup(), table)


def norm_by_layer(curves: Sequence[UpdateCurves], colours: Mapping[str, int]) -> Chart:
    """How much training changed each layer, in the model's order: a line an arm."""
    layers = list(dict.fromkeys(layer for one in curves for layer in one.layers))
    layers.sort(key=lambda layer: (layer.rpartition(" ")[0] == "decoder", int(layer.rpartition(" ")[2])))
    rows = [
        (layer, *(f"{one.layers[layer]:.2g}" if layer in one.layers else NONE for one in curves)) for layer in layers
    ]
    table = Table("Change of each layer by training", ["layer", *(f"{one.arm} ‖Δ‖/‖W‖" for one in curves)], rows)
    drawing = Drawing(WIDTH, HEIGHT, table.caption, table.told)
    x = Axis(0.0, max(1.0, len(layers) - 1.0), LEFT, WIDTH - RIGHT)
    y = around([norm for one in curves for norm in one.layers.values()], HEIGHT - BOTTOM, TOP, zero=True)
    drawing.upright(y, LEFT, WIDTH - RIGHT, "‖Δ‖ / ‖W‖", lambda v: f"{v:g}")
    step = -(-len(layers) // LABELS)
    label = "layer (e: of the encoder, d: of the decoder)" if " " in layers[0] else "layer"
    drawing.across(x, HEIGHT - BOTTOM, label, lambda v: _short(layers[int(v)]), [*range(0, len(layers), step)])
    for one in curves:
        colour, own = colours[one.arm], [(x.at(layers.index(layer)), y.at(v), v) for layer, v in one.layers.items()]
        drawing.path([(a, b) for a, b, _ in sorted(own)], f"s{colour}")
        for (a, b, value), layer in zip(own, one.layers, strict=True):
            drawing.dot(a, b, f"c{colour}", f"{one.arm}, layer {layer}: {value:.3g}")
    return Chart(drawing.markup(), table)


def loss_by_scale(curves: Sequence[UpdateCurves], colours: Mapping[str, int]) -> Chart:
    """Learning against forgetting as an update grows from nothing: a path an arm, a dot a scale."""
    paths = {
        one.arm: [(p.scale, p.retained.value, p.validation.value) for p in one.scales if p.validation is not None]
        for one in curves
    }
    rows = [(f"{arm} × {scale:g}", f"{b:+.3f}", f"{a:+.3f}") for arm, path in paths.items() for scale, a, b in path]
    heads = ["update", "validation loss less the original's", "loss on other texts less the original's"]
    table = Table("Validation loss against forgetting, as the update is scaled", heads, rows)
    drawing = Drawing(WIDTH, HEIGHT, table.caption, table.told)
    x = around([a for path in paths.values() for _, a, _ in path], LEFT, WIDTH - RIGHT)
    y = around([b for path in paths.values() for _, _, b in path], HEIGHT - BOTTOM, TOP)
    drawing.upright(y, LEFT, WIDTH - RIGHT, "validation loss less the original's", lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, FORGOTTEN, lambda v: f"{v:g}")
    for arm, path in paths.items():
        colour = colours[arm]
        drawing.path([(x.at(a), y.at(b)) for _, a, b in path], f"s{colour}")
        for scale, a, b in path:
            drawing.dot(x.at(a), y.at(b), f"c{colour}", f"{arm} × {scale:g}: {b:+.3f} learnt, {a:+.3f} forgotten")
            if scale and len(paths) <= NAMED:
                drawing.text(x.at(a) + 7, y.at(b) - 6, f"{scale:g}", "tick")
    return Chart(drawing.markup(), table)


def score_by_forgetting(
    found: Forgotten, scores: Mapping[str, Interval], metric: Metric, colours: Mapping[str, int]
) -> Chart:
    """The judged score of every arm against what it forgot, both with intervals: the best arms lie to the left."""
    arms = [arm for arm in scores if arm in found.evidence.means]
    zero = Interval(value=0.0, low=0.0, high=0.0)
    forgot = {arm: found.change(arm).difference if arm != found.original else zero for arm in arms}
    rows = [
        (arm, metric.shown(scores[arm].value), f"{forgot[arm].value:+.3f}", _ends(forgot[arm], 1, "+.3f"))
        for arm in arms
    ]
    heads = ["arm", metric.label, "forgotten, nats per token", "95 % interval"]
    table = Table(f"{metric.label} against forgetting", heads, rows)
    drawing, scale = Drawing(WIDTH, HEIGHT, table.caption, table.told), metric.scale
    x = around([0.0, *(end for own in forgot.values() for end in (own.low, own.high))], LEFT, WIDTH - RIGHT - 30)
    y = around([scale * end for arm in arms for end in (scores[arm].low, scores[arm].high)], HEIGHT - BOTTOM, TOP)
    drawing.upright(y, LEFT, WIDTH - RIGHT, metric.label, lambda v: f"{v:g}")
    drawing.across(x, HEIGHT - BOTTOM, FORGOTTEN, lambda v: f"{v:g}")
    for arm in arms:
        own, score, colour = forgot[arm], scores[arm], colours[arm]
        at, height = x.at(own.value), y.at(scale * score.value)
        drawing.line(x.at(own.low), height, x.at(own.high), height, f"s{colour}")
        _whisker(drawing, at, y, score, scale, colour)
        hint = f"{arm}: {metric.shown(score.value, fewer=1)}, {own.value:+.3f} nats [{own.low:+.3f}, {own.high:+.3f}]"
        drawing.dot(at, height, f"c{colour}", hint)
        left = at > WIDTH * 0.6
        if len(arms) <= NAMED + 1:
            drawing.text(at + (-9 if left else 9), height - 7, arm, "", "end" if left else "start")
    return Chart(drawing.markup(), table)


def _ranks(ranks: Sequence[int]) -> Axis:
    return around([float(rank) for rank in ranks], LEFT, WIDTH - RIGHT, log=True)


def _short(layer: str) -> str:
    """`encoder 3` as `e3`: there is no room for more below an axis."""
    stack, _, number = layer.rpartition(" ")
    return f"{stack[:1]}{number}"


def _every(curves: Sequence[UpdateCurves]) -> list[float]:
    return sorted({float(rank) for one in curves for rank in one.energy if rank.bit_count() == 1})


def _whisker(drawing: Drawing, at: float, y: Axis, interval: Interval, scale: float, colour: int) -> None:
    drawing.line(at, y.at(scale * interval.low), at, y.at(scale * interval.high), f"s{colour}")


def _ends(interval: Interval, scale: float, form: str) -> str:
    return f"[{scale * interval.low:{form}}, {scale * interval.high:{form}}]"
