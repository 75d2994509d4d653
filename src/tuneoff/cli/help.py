"""`tuneoff help`: what `--help` prints, for those who ask in this way."""

from __future__ import annotations

from typing import Annotated

import typer


def help(
    context: typer.Context,
    command: Annotated[str | None, typer.Argument(help="The name of a command.", show_default=False)] = None,
) -> None:
    """Print the help of a command, or of tuneoff."""
    from tuneoff.errors import TuneoffError, nearest

    parent = context.parent
    assert parent is not None
    if command is None:
        typer.echo(parent.get_help())
        return
    commands = getattr(parent.command, "commands", {})
    found = commands.get(command)
    if found is None:
        raise TuneoffError(f"there is no command {command!r}; {nearest(command, commands)}")
    typer.echo(found.get_help(type(context)(found, info_name=command, parent=parent)))
