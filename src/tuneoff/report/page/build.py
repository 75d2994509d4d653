"""A run's folder → `report.html`, which needs no network and no program, and `report.md` beside it."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tuneoff import __version__
from tuneoff.folder import RunFolder, write_whole
from tuneoff.recipe import read_recipe
from tuneoff.records import TrialResult, read_predictions
from tuneoff.report.claims import claims
from tuneoff.report.comparison import Comparison, compare
from tuneoff.report.dialogues import Dialogue, side_by_side
from tuneoff.report.page.sections import sections
from tuneoff.report.table import COLUMNS, notes, table_cells
from tuneoff.report.verdict import verdict
from tuneoff.score.evidence import Evidence

HERE = Path(__file__).parent
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}


def write_report(folder: RunFolder) -> Comparison:
    """Write both files for the run as it stands, finished or not. Raises RunFolderError where it is no run."""
    comparison = compare(folder)
    results = _first_results(folder, comparison)
    values = _values(folder, comparison, results)
    write_whole(folder.report, _environment().get_template("page.html.j2").render(values))
    write_whole(folder.markdown, _environment().get_template("page.md.j2").render(values))
    return comparison


def _first_results(folder: RunFolder, comparison: Comparison) -> dict[str, TrialResult]:
    """Of each arm that has finished, the result at its first finished seed."""
    return {
        row.arm: TrialResult.read(folder.trial(row.arm, row.seeds[0]).result) for row in comparison.arms if row.seeds
    }


def _values(folder: RunFolder, comparison: Comparison, results: dict[str, TrialResult]) -> dict[str, Any]:
    recipe = read_recipe(folder.recipe).recipe
    model = recipe.model.name or "random weights"
    source = recipe.data.source if isinstance(recipe.data.source, str) else "files"
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    full = next((r for r in results.values() if r.method == "full"), None)
    others = [r for r in results.values() if r.method not in ("none", "full")]
    return {
        "title": f"{folder.path.resolve().name}: full fine-tuning or a few weights?",
        "subtitle": f"{model} on {source}, {len(comparison.arms)} arms. "
        f"tuneoff {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "verdict": verdict(comparison),
        "failures": [f"{row.arm}, {failure}" for row in comparison.arms for failure in row.failures],
        "unfinished": comparison.unfinished,
        "columns": COLUMNS,
        "rows": [table_cells(row) for row in comparison.arms],
        "notes": notes(comparison),
        "sections": sections(folder, comparison, results),
        "differences": _differences(comparison.evidence),
        "claims": claims(full, others) if full else [],
        "dialogues": _dialogues(folder, comparison),
        "arms": list(results),
        "examples": comparison.examples,
        "reproduce": f"pip install tuneoff=={__version__}\ntuneoff run recipe.yaml --out again",
        "recipe": folder.recipe.read_text(encoding="utf-8"),
        "environment": folder.environment.read_text(encoding="utf-8") if folder.environment.is_file() else "",
        "signature": comparison.signature,
        "style": style,
        "script": script,
        "style_hash": _sha256(style),
        "script_hash": _sha256(script),
    }


def _dialogues(folder: RunFolder, comparison: Comparison) -> list[Dialogue]:
    predictions = {
        row.arm: read_predictions(folder.trial(row.arm, row.seeds[0]).predictions)
        for row in comparison.arms
        if row.seeds
    }
    return side_by_side(predictions) if predictions else []


def _differences(evidence: Evidence | None) -> list[tuple[str, ...]]:
    if evidence is None:
        return []
    return [
        (
            f"{d.arm} − {d.other}",
            NAMES[d.metric],
            f"{100 * d.difference.value:+.2f}",
            f"[{100 * d.difference.low:+.2f}, {100 * d.difference.high:+.2f}]",
            f"{d.p_holm:.4f}",
            f"{100 * d.detectable:.2f}",
        )
        for d in evidence.differences
    ]


def _sha256(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
