"""`tuneoff diagnose`: what training did to the weights of a run's arms."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print diagnosis.json of every trial.")] = False,
) -> None:
    """Diagnose a run's trained arms, as `tuneoff run` does at its end, and show the spectrum of every arm's update.

    How large the update is, where, and which rank would hold it; what the arm has forgotten, and what is left of its
    gain where the update is scaled or cut to a rank. Written to diagnosis.json and losses.json of each trial, and into
    the report.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.folder import RunFolder
    from tuneoff.report.diagnosis import diagnosis_lines
    from tuneoff.report.forgotten import forgotten_sentences
    from tuneoff.report.learnt import advice
    from tuneoff.report.page import write_report
    from tuneoff.runner.diagnosing import diagnose_run

    folder = RunFolder(run)
    with telling() as tell:
        found = diagnose_run(folder, tell)
    comparison = write_report(folder)
    if json:
        for diagnosis in found:
            typer.echo(diagnosis.model_dump_json())
        return
    for diagnosis in found:
        for line in diagnosis_lines(diagnosis):
            typer.echo(line)
        typer.echo("")
    sentences = [sentence for curves in comparison.learnt for sentence in advice(curves)]
    if comparison.forgotten is not None:
        full = next((row.arm for row in comparison.arms if row.method == "full"), None)
        sentences += forgotten_sentences(comparison.forgotten, full)
    for sentence in sentences:
        typer.echo(fill(sentence, 80))
