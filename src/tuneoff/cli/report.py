"""`tuneoff report`: the page of a run, or of several together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where the files go.", show_default="the run; of several runs, ./report")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(help="Write the charts as files instead (png or svg), or the tables (csv).", show_default=False),
    ] = None,
) -> None:
    """Write report.html and report.md. Into the folder of one run, or of several together into --out.

    With --export, the run's charts or tables are written as files into --out, or else into RUN/figures.
    """
    from tuneoff.errors import ExportError, WriteError
    from tuneoff.folder import RunFolder, require_no_strangers
    from tuneoff.report.figure_files import FIGURE_FORMATS, write_figures
    from tuneoff.report.page import write_report, write_report_of_runs

    if export is not None:
        form = next((form for form in FIGURE_FORMATS if form == export), None)
        if form is None:
            raise ExportError(f"--export {export}: no such format; there are {', '.join(FIGURE_FORMATS)}")
        if len(runs) > 1:
            raise ExportError("--export takes one run at a time")
        if out is not None and not RunFolder(out).is_run:
            require_no_strangers(out, lambda name: Path(name).suffix[1:] in FIGURE_FORMATS)
        for path in write_figures(RunFolder(runs[0]), out or runs[0] / "figures", form):
            typer.echo(path)
        return
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
