"""`tuneoff watch`: a run in progress, on a page of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 8643,
) -> None:
    """Show a run in progress on a page: curves, memory, time left, and the report as far as it goes. Local only."""
    from tuneoff.folder import RunFolder
    from tuneoff.use.local.server import listen
    from tuneoff.use.watch import watch_server

    server = watch_server(RunFolder(run))
    with listen(port) as listening:
        typer.echo(f"{run}: http://127.0.0.1:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
        server.run(sockets=[listening])
