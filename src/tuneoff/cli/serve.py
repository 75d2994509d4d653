"""`tuneoff serve`: the arms of a run side by side, on a page of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

# On a CPU torch and oneDNN keep what they compile for each of the last 1,024 shapes, and batches are of many shapes:
# hundreds of MiB in a thousand requests. Read once, when torch is loaded.
KERNEL_CACHES, KERNELS = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"), "64"


def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    arm: Annotated[
        list[str] | None, typer.Option(metavar="ARM", help="Serve this arm; may be repeated.", show_default="all")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 8642,
) -> None:
    """Serve the arms side by side on a page, and as an API. Local only."""
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS)
    from tuneoff.cli.progress import telling
    from tuneoff.folder import RunFolder
    from tuneoff.model.quiet import quiet
    from tuneoff.runner.finished import Finished

    for name in arm or []:
        Finished(RunFolder(run), name)  # a wrong name is told before the libraries are loaded
    from tuneoff.use.serve import Limits, choose_arms, listen, load_server

    served = choose_arms(RunFolder(run), arm or [])
    if served.unfinished:
        typer.echo(f"not finished, so not served: {', '.join(served.unfinished)}", err=True)
    with listen(port) as listening, quiet():
        with telling() as tell:
            tell.phase("loading")
            server = load_server(served, Limits())
        names = ", ".join(one.name for one in served.arms)
        typer.echo(f"{names}: http://127.0.0.1:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
        server.run(sockets=[listening])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter's own end takes a moment that one more would break
