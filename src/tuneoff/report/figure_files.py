"""The charts and tables of a run as files: SVG or PNG for slides and papers, CSV for other programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from tuneoff.errors import ExportError
from tuneoff.folder import RunFolder, write_whole
from tuneoff.records import Interval
from tuneoff.report.arms import Arm
from tuneoff.report.chart import Chart
from tuneoff.report.comparison import Comparison, compare
from tuneoff.report.page.section import anchor
from tuneoff.report.page.sections import sections

FigureFormat = Literal["png", "svg", "csv"]
FIGURE_FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)
STYLE = Path(__file__).parent / "page" / "charts.css"
ZOOM = 2  # pixels of a PNG for each of the drawing's own, sharp on slides
PAPER = "#ffffff"


def write_figures(folder: RunFolder, out: Path, form: FigureFormat) -> list[Path]:
    """Write every chart of the report (`png`, `svg`), or every table (`csv`), into `out`. Returns the files.

    CSV has the numbers in full (`arms.csv`, `differences.csv`) and the figures of each chart as the report shows them.

    Raises:
        RunFolderError: `folder` is no run.
        ExportError: PNG is asked for, and the library that renders it is not installed.
        WriteError: `out` cannot be written.
    """
    comparison, arms = compare(folder)
    made = dict(_tables(comparison, arms) if form == "csv" else _drawings(comparison, arms, form))
    paths = []
    for name, content in made.items():
        path = out / f"{name}.{form}"
        write_whole(path, content)
        paths.append(path)
    return paths


def _drawings(comparison: Comparison, arms: Sequence[Arm], form: FigureFormat) -> Iterator[tuple[str, str | bytes]]:
    for section in sections(arms, comparison):
        for chart in section.charts:
            drawn = _standalone(chart)
            yield anchor(chart.table.caption), drawn if form == "svg" else _png(drawn)


def _standalone(chart: Chart) -> str:
    """A chart as an SVG file that needs no page around it: with its size, its style in light colours, and its paper."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', chart.drawing)
    assert box is not None
    width, height = box.groups()
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    style, paper = f"<style>{_style()}</style>", f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    return str(chart.drawing).replace("<svg ", head, 1).replace("</title>", f"</title>{style}{paper}", 1)


def _style() -> str:
    """The charts' style sheet with light colours in place of variables, which few programs besides browsers know."""
    text = STYLE.read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w+);", text.partition("@media")[0]))
    rules = text[text.index("svg text") :].replace("system-ui, ", "")
    return re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], rules)


def _png(drawing: str) -> bytes:
    try:
        import resvg_py
    except ImportError:
        raise ExportError("PNG is rendered by resvg, which is not installed: pip install 'tuneoff[png]'") from None
    return bytes(resvg_py.svg_to_bytes(svg_string=drawing, zoom=ZOOM))


def _tables(comparison: Comparison, arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    yield "arms", _csv(_arm_rows(comparison))
    if comparison.evidence is not None:
        heads = ["arm", "other", "metric", "difference", "low", "high", "p", "p_holm", "detectable"]
        rows = [
            [d.arm, d.other, d.metric, *_interval(d.difference), d.p, d.p_holm, d.detectable]
            for d in comparison.evidence.differences
        ]
        yield "differences", _csv([heads, *rows])
    for section in sections(arms, comparison):
        for table in [chart.table for chart in section.charts if chart.choice is None] + list(section.tables):
            yield anchor(table.caption), _csv([table.heads, *table.rows])


def _arm_rows(comparison: Comparison) -> Iterator[Sequence[object]]:
    """Each arm's figures under the names that comparison.json has for them: bytes, seconds, scores from 0 to 1."""
    figures = (
        "train_seconds", "generate_seconds", "total_seconds", "train_peak_bytes", "generate_peak_bytes",
        "process_peak_bytes",
    )  # fmt: skip
    scores = [f"{metric}{end}" for metric in comparison.metrics for end in ("", "_low", "_high")]
    yield ["arm", "method", "seeds", "trainable", "total", *scores, *figures]
    means = comparison.evidence.means if comparison.evidence is not None else {}
    for row in comparison.arms:
        counts = [row.parameters.trainable, row.parameters.total] if row.parameters else [None, None]
        own = means.get(row.arm, {})
        shown = [end for metric in comparison.metrics for end in _interval(own.get(metric))]
        yield [row.arm, row.method, len(row.seeds), *counts, *shown, *(getattr(row, name) for name in figures)]


def _interval(found: Interval | None) -> list[float | None]:
    return [found.value, found.low, found.high] if found is not None else [None] * 3


def _csv(rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()
