"""What the commands print on standard output: a comparison for people, or as JSON for machines."""

from __future__ import annotations

import json

import typer

from tuneoff.cli.terminal import Terminal
from tuneoff.folder import RunFolder
from tuneoff.report.comparison import Comparison
from tuneoff.report.table import print_comparison


def print_result(comparison: Comparison, folder: RunFolder, as_json: bool) -> None:
    """The comparison of the run in `folder`."""
    if as_json:
        # Not by pydantic, which refuses a path that is no text in UTF-8.
        typer.echo(json.dumps(comparison.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(comparison, folder, Terminal())
