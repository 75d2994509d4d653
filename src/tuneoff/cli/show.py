"""`tuneoff show`: the table of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead.")] = False,
) -> None:
    """Print the comparison of a run, finished or not."""
    from tuneoff.cli.output import print_result
    from tuneoff.folder import RunFolder
    from tuneoff.report.comparison import compare

    folder = RunFolder(run)
    print_result(compare(folder)[0], folder, as_json=json)
