"""`tuneoff export`: a finished arm as a folder that its own library loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("adapter", "merged", "ctranslate2", "onnx", "gguf", "gguf-q8_0")  # as use.export has them, which loads torch


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    arm: Annotated[str, typer.Option(help="Which arm.")] = ...,  # type: ignore[assignment]
    to: Annotated[Path, typer.Option(help="Output folder (new or empty).")] = ...,  # type: ignore[assignment]
    format: Annotated[
        str, typer.Option(help="adapter, merged, ctranslate2, onnx, gguf or gguf-q8_0.", autocompletion=lambda: FORMATS)
    ] = ...,  # type: ignore[assignment]
    seed: Annotated[int | None, typer.Option(help="Seed of the trial to use.", show_default="the first")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Also upload it to the hub (a new repository is private).")
    ] = None,
) -> None:
    """Export an arm with a model card, and verify it.

    The export is reloaded with its own library and must write what the run wrote.
    A GGUF is read back and compared weight by weight; its texts are compared where llama-cpp-python is installed.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.errors import ExportError, nearest
    from tuneoff.folder import RunFolder
    from tuneoff.runner.finished import Finished
    from tuneoff.units import bytes_text

    if format not in FORMATS:
        raise ExportError(f"no format {format!r}; {nearest(format, FORMATS)}")
    Finished(RunFolder(run), arm, seed)  # a wrong name is told before the libraries are loaded
    from tuneoff.use.export import export as export_arm
    from tuneoff.use.export.push import check_push
    from tuneoff.use.export.push import push as upload

    if push is not None:
        check_push(push)
    with telling() as tell:
        exported = export_arm(RunFolder(run), arm, to, format, tell, seed)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    typer.echo(f"{to}: {arm} as {format}, {bytes_text(size)}")
    for line in exported.lines():
        typer.echo(line)
    if push is not None:
        with telling() as tell:
            tell.phase(f"push to {push}")
            url = upload(to, push, f"{arm} of {exported.run}, exported as {format}")
        typer.echo(f"pushed to {url}")
