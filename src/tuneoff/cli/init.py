"""`tuneoff init`: a recipe for one's own data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tuneoff.errors import DataError, WriteError


def init(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="csv, tsv, json, jsonl or parquet, also compressed; a folder; a name on the hub.",
            show_default="the one data file here",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The recipe to write. It must not exist.")] = Path("recipe.yaml"),
    model: Annotated[
        str | None, typer.Option(help="A name on the hub, a folder, or builtin:NAME.", show_default="SmolLM2-135M")
    ] = None,
) -> None:
    """Write a recipe for your own data, with comments.

    Columns, lengths and a split are proposed from the data, and what was guessed is said. Nothing is trained.
    """
    from tuneoff.cli.terminal import Terminal
    from tuneoff.folder import write_whole
    from tuneoff.planner.draft import DEFAULT_MODEL, draft_recipe

    if out.exists():
        raise WriteError(f"{out} exists already: name another file with --out, or move it away")
    found = data if data is not None else _only_file()
    draft = draft_recipe(found, model or DEFAULT_MODEL, absolute=out.resolve().parent != Path.cwd())
    write_whole(out, draft.text)
    console = Terminal()
    for finding in draft.findings:
        console.print(finding, markup=False, soft_wrap=True)
    console.print(f"\n{out} is written. Read it, change what you like, and go on:", markup=False, soft_wrap=True)
    name = shlex.quote(str(out))
    for command, does in (
        ("data", "what the model will see"),
        ("plan", "memory and time"),
        ("run", "compare the arms"),
    ):
        console.print(f"  tuneoff {command} {name}  # {does}", markup=False, soft_wrap=True)


def _only_file() -> str:
    """The one data file of the working directory. Raises DataError where there is none, or several."""
    from tuneoff.data.compression import OPENERS
    from tuneoff.data.rows import SUFFIXES

    def holds_data(path: Path) -> bool:
        name = Path(path.stem) if path.suffix.lower() in OPENERS else path
        return path.is_file() and name.suffix.lower() in SUFFIXES

    files = sorted(path.name for path in Path().iterdir() if holds_data(path))
    if len(files) != 1:
        told = f"there are {', '.join(files[:8])}{', …' if len(files) > 8 else ''}" if files else "none is here"
        raise DataError(f"name your data file ({told}): tuneoff init FILE")
    return files[0]
