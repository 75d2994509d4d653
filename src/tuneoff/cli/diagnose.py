"""`tuneoff diagnose`: what training did to the weights of a run's arms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print diagnosis.json of every trial.")] = False,
) -> None:
    """Show the spectrum of every trained arm's update: how large it is, where, and which rank would hold it.

    Stable rank, ranks that hold 50 and 90 % of it, intruder dimensions, and how much of the directions of full
    fine-tuning an adapter has found. Written to diagnosis.json of each trial.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.folder import RunFolder
    from tuneoff.report.diagnosis import diagnosis_lines
    from tuneoff.runner.diagnosing import diagnose_run

    with telling() as tell:
        found = diagnose_run(RunFolder(run), tell)
    if json:
        for diagnosis in found:
            typer.echo(diagnosis.model_dump_json())
        return
    for place, diagnosis in enumerate(found):
        if place:
            typer.echo("")
        for line in diagnosis_lines(diagnosis):
            typer.echo(line)
