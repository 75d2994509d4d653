"""`tuneoff report`: the page of a run, or of several together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where the report of several runs goes.", show_default="report")
    ] = None,
) -> None:
    """Write report.html and report.md. Into the folder of one run, or of several together into --out."""
    from tuneoff.errors import WriteError
    from tuneoff.folder import RunFolder
    from tuneoff.report.page import write_report, write_report_of_runs

    if len(runs) == 1 and out is None:
        out = runs[0]
        try:
            write_report(RunFolder(out))
        except WriteError as error:
            raise WriteError(f"{error}. `tuneoff report {out} --out FOLDER` writes it elsewhere.") from None
    else:
        out = out or Path("report")
        write_report_of_runs([RunFolder(run) for run in runs], out)
    typer.echo(out / "report.html")
