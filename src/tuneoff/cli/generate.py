"""`tuneoff generate`: what a finished arm writes for new inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneoff.errors import DataError, TuneoffError
from tuneoff.use.rows import Given, read_given

if TYPE_CHECKING:
    from tuneoff.data.tokens import Tokenization


def generate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Text or jsonl; - is standard input.")] = "-",
    arm: Annotated[str, typer.Option(help="Which arm writes.")] = ...,  # type: ignore[assignment]
    seed: Annotated[int | None, typer.Option(help="Of which seed.", show_default="the first")] = None,
) -> None:
    """Write a line for each input, in their order, as they come.

    FILE holds text (inputs with an empty line between them: a line of text comes out for each) or jsonl with the
    data's columns or conversations (the same objects come out, with `prediction`).
    """
    from tuneoff.folder import RunFolder
    from tuneoff.model.quiet import quiet
    from tuneoff.runner.finished import Finished
    from tuneoff.visible import visible

    finished = Finished(RunFolder(run), arm, seed)
    try:
        lines: Iterable[bytes] = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{file}: cannot read: {error.strerror}") from None
    from tuneoff.use.writer import Writer  # loads torch, which takes seconds

    with quiet():
        writer = Writer(finished)
    given = read_given(lines, "standard input" if file == "-" else file, finished.recipe)
    while True:
        batch, bad = _take(given, finished.recipe.evaluation.batch_size, finished.tokenization)
        for one, written in zip(batch, writer.write([one.asked for one in batch]), strict=True):
            line = one.line(written.text)
            typer.echo(visible(line) if sys.stdout.isatty() else line)
        sys.stdout.flush()
        if bad is not None:
            raise bad
        if not batch:
            return


def _take(given: Iterator[Given], count: int, tokenization: Tokenization) -> tuple[list[Given], TuneoffError | None]:
    """The next inputs, and the mistake that ended them: what stands before a bad line is written all the same."""
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
