"""What the commands print on standard output: a comparison for people, or as JSON for machines."""

from __future__ import annotations

import typer

from tuneoff.cli.terminal import Terminal
from tuneoff.folder import RunFolder
from tuneoff.report.comparison import Comparison
from tuneoff.report.table import print_comparison


def print_result(comparison: Comparison, folder: RunFolder, as_json: bool) -> None:
    """The comparison of the run in `folder`."""
    if as_json:
        typer.echo(comparison.model_dump_json(indent=2))
    else:
        print_comparison(comparison, folder, Terminal())
