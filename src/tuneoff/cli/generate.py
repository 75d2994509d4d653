"""`tuneoff generate`: what a finished arm writes for new inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneoff.errors import DataError, TuneoffError
from tuneoff.use.rows import Given, read_given, read_given_file
from tuneoff.visible import visible

if TYPE_CHECKING:
    from tuneoff.data.tokens import Tokenization
    from tuneoff.runner.finished import Finished
    from tuneoff.use.writer import Writer


def generate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="csv, tsv, json, jsonl, parquet, or text; - is standard input.")
    ] = "-",
    arm: Annotated[str, typer.Option(help="Which arm writes.")] = ...,  # type: ignore[assignment]
    seed: Annotated[int | None, typer.Option(help="Seed of the trial to use.", show_default="the first")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a file: .jsonl, .csv, .tsv, .parquet or .txt.", show_default=False)
    ] = None,
) -> None:
    """Print one prediction per input, in order.

    FILE holds rows with the data's columns or conversations (they come out as JSON objects, with `prediction`), or text
    (inputs with an empty line between them: a line of text comes out for each). It may be compressed. Standard input
    is jsonl or text. With --out all inputs are checked before the first is written for.
    """
    from tuneoff.folder import RunFolder
    from tuneoff.runner.finished import Finished
    from tuneoff.use.output import require_writable

    if out is not None:
        require_writable(out)
    finished = Finished(RunFolder(run), arm, seed)
    if file == "-":
        given = read_given(sys.stdin.buffer, "standard input", finished.recipe)
    else:
        given = read_given_file(Path(file), finished.recipe, lambda notice: typer.echo(notice, err=True))
    if out is not None:
        _write_file(given, finished, out)
        return
    writer = None
    while True:
        batch, bad = _take(given, finished.recipe.evaluation.batch_size, finished.tokenization)
        if batch:
            writer = writer or _writer(finished)
            for one, written in zip(batch, writer.write([one.asked for one in batch]), strict=True):
                line = one.line(written.text)
                typer.echo(visible(line) if sys.stdout.isatty() else line)
            sys.stdout.flush()
        if bad is not None:
            raise bad
        if not batch:
            return


def _writer(finished: Finished) -> Writer:
    """Loads the arm's model, which takes seconds: after the first inputs have been read, and their mistakes told."""
    from tuneoff.model.quiet import quiet
    from tuneoff.use.writer import Writer

    with quiet():
        return Writer(finished)


def _write_file(given: Iterator[Given], finished: Finished, out: Path) -> None:
    from tuneoff.cli.progress import telling
    from tuneoff.use.output import write_predictions

    all_given, bad = _take(given, None, finished.tokenization)
    if bad is not None:
        raise bad
    with telling() as tell:
        tell.phase("load model")
        writer = _writer(finished)
        tell.phase("generate")
        written = writer.write([one.asked for one in all_given], tell.progress)
    write_predictions(out, all_given, [one.text for one in written])
    typer.echo(f"{len(written):,} predictions: {out}", err=True)


def _take(
    given: Iterator[Given], count: int | None, tokenization: Tokenization
) -> tuple[list[Given], TuneoffError | None]:
    """The next `count` inputs, or all, and the mistake that ended them.

    What stands before a bad line can be written all the same.
    """
    taken: list[Given] = []
    try:
        for one in islice(given, count):
            try:
                tokenization.prompts([one.asked])
            except TuneoffError as error:
                return taken, DataError(f"{one.where}: {error}")
            taken.append(one)
    except TuneoffError as error:
        return taken, error
    return taken, None
