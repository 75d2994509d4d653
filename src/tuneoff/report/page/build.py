"""A run's folder → `report.html`, which needs no network and no program, and `report.md` beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tuneoff.errors import DamagedFileError
from tuneoff.folder import RunFolder, require_no_strangers, write_whole
from tuneoff.recipe import recipe_of
from tuneoff.records import read_text
from tuneoff.report.arms import Arm
from tuneoff.report.claims import claims
from tuneoff.report.comparison import Comparison, compare, compare_runs
from tuneoff.report.cost_table import COST_COLUMNS, cost_notes, cost_rows
from tuneoff.report.markdown import code, plain
from tuneoff.report.page.evidence_section import evidence_sections
from tuneoff.report.page.ran_section import ran_sections
from tuneoff.report.page.section import anchor
from tuneoff.report.page.sections import sections
from tuneoff.report.side_by_side import side_by_side
from tuneoff.report.table import floor_cells, notes, table_cells, table_columns
from tuneoff.report.verdict import verdict
from tuneoff.score.metrics import find_metric
from tuneoff.version import __version__
from tuneoff.visible import visible

HERE = Path(__file__).parent


def write_report(folder: RunFolder) -> Comparison:
    """Write both files and `comparison.json` for the run as it stands, finished or not.

    Raises RunFolderError where it is no run.
    """
    comparison, arms = compare(folder)
    comparison.write(folder.comparison)
    _write(folder.path, [folder], comparison, arms)
    return comparison


def write_report_of_runs(folders: Sequence[RunFolder], out: Path) -> None:
    """Both files into `out`, for the arms of several runs together.

    Raises RunFolderError as `compare_runs` does, and where `out` holds files that are neither a run's nor a report's.
    """
    _require_room(out)
    comparison, arms = compare_runs(folders)
    _write(out, folders, comparison, arms)


def _require_room(out: Path) -> None:
    if RunFolder(out).is_run:
        return
    page = out / "report.html"
    ours = page.is_file() and "tuneoff" in page.read_text(encoding="utf-8", errors="replace")
    require_no_strangers(out, lambda name: ours and name in ("report.html", "report.md"))


def report_html(folder: RunFolder) -> str:
    """The page of the run as it stands, without writing it. Raises RunFolderError where it is no run."""
    comparison, arms = compare(folder)
    return template("page.html.j2").render(_values([folder], comparison, arms))


def template(name: str) -> Template:
    """A template of this folder, which makes whatever text is put into it inert."""
    return _environment().get_template(name)


def _write(out: Path, folders: Sequence[RunFolder], comparison: Comparison, arms: Sequence[Arm]) -> None:
    values = _values(folders, comparison, arms)
    for name in ("html", "md"):
        write_whole(out / f"report.{name}", template(f"page.{name}.j2").render(values))


def _values(folders: Sequence[RunFolder], comparison: Comparison, arms: Sequence[Arm]) -> dict[str, Any]:
    shown = side_by_side(
        {arm.name: arm.predictions[arm.first.seed] for arm in arms if arm.first}, find_metric(comparison.metrics[0])
    )
    parts = [*sections(arms, comparison), *evidence_sections(comparison), *ran_sections(comparison.ran)]
    costs, said = cost_rows(comparison), claims(comparison, arms)
    colours, look, script = (
        Markup((HERE / name).read_text(encoding="utf-8")) for name in ("charts.css", "page.css", "page.js")
    )
    style = colours + look
    return {
        "title": f"{', '.join(f.path.resolve().name for f in folders)}: full fine-tuning vs PEFT",
        "subtitle": f"{'; '.join(_subject(folder) for folder in folders)}. "
        f"tuneoff {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "verdict": verdict(comparison),
        "failures": [f"{row.arm}, {failure}" for row in comparison.arms for failure in row.failures],
        "unfinished": comparison.unfinished,
        "columns": table_columns(comparison),
        "rows": [table_cells(row, comparison) for row in comparison.arms],
        "floors": floor_cells(comparison),
        "notes": notes(comparison),
        "cost_columns": COST_COLUMNS,
        "cost_rows": costs,
        "cost_notes": cost_notes(comparison),
        "sections": parts,
        "claims": said,
        "words": comparison.words,
        "shown": shown,
        "arms": [arm.name for arm in arms if arm.first],
        "examples": comparison.examples,
        "reproduce": comparison.ran[0].command,
        "recipe": _texts(folder.recipe for folder in folders),
        "environment": _texts(folder.environment for folder in folders),
        "signature": comparison.signature,
        "contents": [
            "The arms",
            *(["What they cost"] if costs else []),
            *(part.title for part in parts),
            *(["Common claims, checked on this run"] if said else []),
            *(["Side by side"] if shown else []),
            "Reproduce",
        ],
        "style": style,
        "script": script,
        "style_hash": _sha256(style),
        "script_hash": _sha256(script),
    }


def _subject(folder: RunFolder) -> str:
    recipe = recipe_of(folder)
    model = recipe.model.name or "random weights"
    model += f"/{recipe.model.gguf}" if recipe.model.gguf else ""
    source = recipe.data.source if isinstance(recipe.data.source, str) else "files"
    return f"{model} on {source}"


def _texts(paths: Iterable[Path]) -> str:
    """What files of the run hold, in a line what is wrong with one that cannot be read."""
    texts = []
    for path in paths:
        try:
            texts.append(read_text(path))
        except DamagedFileError as error:
            texts.append(f"# {error}")
    return "\n".join(texts)


def _sha256(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"plain": plain, "code": code, "anchor": anchor}
    return made
