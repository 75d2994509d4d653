"""`tuneoff score`: finished predictions scored again, also by other metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="M", help="A metric; may be given several times.", show_default="those of the recipe"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead of the table.")] = False,
) -> None:
    """Score what the finished arms wrote, without a model, and write the report anew.

    Figures of metrics that are not named stay as they are. A function of your own is named as MODULE:FUNCTION.
    """
    from tuneoff.cli.output import print_result
    from tuneoff.cli.progress import telling
    from tuneoff.folder import RunFolder
    from tuneoff.report.page import write_report
    from tuneoff.use.scoring import score_run

    folder = RunFolder(run)
    with telling() as tell:
        score_run(folder, metric or [], tell)
    print_result(write_report(folder), folder, as_json=json)
