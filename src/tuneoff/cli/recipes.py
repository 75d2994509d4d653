"""`tuneoff recipes`: the recipes that ship."""

from __future__ import annotations

import typer


def recipes() -> None:
    """List the recipes that ship with tuneoff."""
    from tuneoff.recipe.shipped import describe, shipped_recipes

    for name, path in shipped_recipes().items():
        typer.echo(f"{name:<28} {describe(path)}")
    typer.echo("\n`tuneoff run NAME` runs one; copy a file from here to change it:")
    typer.echo(str(path.parent))
