"""`tuneoff run`: carry out a recipe, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130


def run(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of one that ships.", show_default="demo")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.", show_default="runs/NAME-OF-RECIPE")] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Override a key, e.g. training.epochs=3.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(metavar="ARM", help="Run this arm alone, or several; the others later.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run what is predicted not to fit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare the arms of a recipe. On the folder of an unfinished run: go on where it stopped."""
    from tuneoff.cli.output import print_result
    from tuneoff.cli.progress import watch
    from tuneoff.errors import InterruptedRunError, PrepareFailedError, RecipeError
    from tuneoff.folder import RunFolder
    from tuneoff.recipe import load_recipe, read_recipe
    from tuneoff.report.page import write_report
    from tuneoff.runner.run import Run

    if recipe is None and out is not None and RunFolder(out).recipe.is_file():
        loaded = read_recipe(RunFolder(out).recipe, set or [])
    else:
        loaded = load_recipe(recipe or "demo", set or [])
    folder = RunFolder(out or Path("runs") / loaded.name)
    with watch(folder) as listener:
        try:
            complete = Run(loaded.recipe, folder, listener, force, arm or []).carry_out()
        except RecipeError as error:
            raise loaded.locate(error) from None
        except InterruptedRunError:
            named = "".join(f" --arm {name}" for name in arm or [])
            listener.say(f"interrupted. To go on: tuneoff run --out {folder.path}{named}{' --force' if force else ''}")
            raise typer.Exit(INTERRUPTED) from None
        except PrepareFailedError as error:
            listener.say(f"preparing the run failed: {error}\nThe whole log: {folder.prepare_log}")
            raise typer.Exit(FAILED) from None
    print_result(write_report(folder), folder, as_json=json)
    if not complete:
        raise typer.Exit(FAILED)
