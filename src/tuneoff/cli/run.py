"""`tuneoff run`: carry out a recipe, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tuneoff.folder import RunFolder
    from tuneoff.recipe import LoadedRecipe

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
        list[str] | None, typer.Option(metavar="ARM", help="Run only this arm (repeatable); run the rest later.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run arms even if they are predicted not to fit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare the arms of a recipe, or resume the unfinished run in --out."""
    from tuneoff.cli.output import print_result
    from tuneoff.cli.progress import watch
    from tuneoff.errors import InterruptedRunError, PrepareFailedError, RecipeError
    from tuneoff.folder import RunFolder
    from tuneoff.recipe import load_recipe
    from tuneoff.report.page import write_report
    from tuneoff.runner.run import Run

    if recipe is None and out is not None:
        loaded = _loaded_from(RunFolder(out), set or [])
    else:
        loaded = load_recipe("demo" if recipe is None else recipe, set or [])
    folder = RunFolder(out or Path("runs") / loaded.name)
    with watch(folder) as listener:
        try:
            complete = Run(loaded.recipe, folder, listener, force, arm or []).carry_out()
        except RecipeError as error:
            raise loaded.locate(error) from None
        except InterruptedRunError:
            named = "".join(f" --arm {name}" for name in arm or [])
            listener.say(
                f"Interrupted. Resume with: tuneoff run --out {folder.path}{named}{' --force' if force else ''}"
            )
            raise typer.Exit(INTERRUPTED) from None
        except PrepareFailedError as error:
            listener.say(f"preparing the run failed: {error}\nThe whole log: {folder.prepare_log}")
            raise typer.Exit(FAILED) from None
    print_result(write_report(folder), folder, as_json=json)
    if not complete:
        raise typer.Exit(FAILED)


def _loaded_from(folder: RunFolder, overrides: list[str]) -> LoadedRecipe:
    """The recipe of the run in `folder`, to go on with it. Raises RunFolderError where there is none."""
    from tuneoff.errors import RunFolderError
    from tuneoff.recipe import read_recipe
    from tuneoff.recipe.load import make_recipe, placed
    from tuneoff.records import Resolved

    try:
        folder.require()
    except RunFolderError as error:
        raise RunFolderError(f"{error} To start one, name a recipe: tuneoff run RECIPE --out {folder.path}") from None
    resolved = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
    if folder.recipe.is_file():
        loaded = read_recipe(folder.recipe, overrides)
    else:
        assert resolved is not None
        loaded = make_recipe(resolved.recipe, overrides)
    # Relative paths in the recipe.yaml of a run of an older tuneoff start from where it began.
    return placed(loaded, Path(resolved.directory) if resolved is not None else folder.path, overrides)
