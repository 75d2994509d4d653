"""`tuneoff report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)],
) -> None:
    """Write report.html and report.md of a run, finished or not."""
    from tuneoff.folder import RunFolder
    from tuneoff.report.page import write_report

    folder = RunFolder(run)
    write_report(folder)
    typer.echo(folder.report)
