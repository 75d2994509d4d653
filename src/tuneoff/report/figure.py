"""The report's charts by themselves, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tuneoff.report.arms import Arm
from tuneoff.report.chart import Chart
from tuneoff.report.comparison import Comparison
from tuneoff.report.page.section import Section
from tuneoff.report.page.sections import sections

PAGE = Path(__file__).parent / "page"
# As high as what it shows, where the page around lets a frame say so.
FIT = "this.style.height = this.contentDocument.body.offsetHeight + 'px'"


@dataclass(frozen=True)
class Figure(Section):
    """One section of the report's charts: `title`, `words` on what to see in it, and `charts`, each an SVG (`drawing`)
    with the `table` of its figures.

    It shows itself in a notebook, in the report's style.
    """

    def _repr_html_(self) -> str:
        style = "".join((PAGE / name).read_text(encoding="utf-8") for name in ("charts.css", "page.css"))
        style += "body { padding: 0; } h3 { margin: .5rem 0; }"
        charts = "".join(f"<figure>{chart.drawing}</figure>" for chart in self.charts)
        # A frame of its own: the page's style must not reach the notebook.
        page = (
            f"<style>{style}</style><h3>{self.title}</h3><p class='soft'>{self.words}</p>"
            f"<div class='{'scroll' if self.wide else 'charts'}'>{charts}</div>"
        )
        look = f"border:0;width:100%;height:{self._height}px"
        return f'<iframe srcdoc="{Markup.escape(page)}" onload="{FIT}" style="{look}"></iframe>'

    @property
    def _height(self) -> int:
        return 460 * ((len(self.charts) + 1) // 2)


def figures(arms: Sequence[Arm], comparison: Comparison) -> dict[str, Figure]:
    """Every section that the run has charts in, by its title; of charts to choose from, those of the first metric."""
    return {s.title: Figure(s.title, s.words, _first(s), wide=s.wide) for s in sections(arms, comparison) if s.charts}


def _first(section: Section) -> Sequence[Chart]:
    return [chart for chart in section.charts if chart.choice is None or chart.choice.up == section.up[0]]
