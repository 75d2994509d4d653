"""The folder of a run is claimed for a recipe: a new one takes it, an old one must be of the same recipe."""

from __future__ import annotations

import shutil

from tuneoff.errors import RecipeChangedError, RecipeError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, read_recipe, write_recipe
from tuneoff.recipe.changes import differences_from_resolved, with_free_settings
from tuneoff.records import Resolved


def claim(folder: RunFolder, recipe: Recipe) -> None:
    """Write `recipe` into a new folder; raise RecipeChangedError where the folder holds a run of another recipe.

    What no result hangs on (how often checkpoints are written, trackers) may change. Where resolving never succeeded
    nothing hangs on the old recipe: a mended one takes its place.
    """
    if not folder.resolved.is_file():
        if any(folder.path.glob("trials/*/*")):
            raise RecipeChangedError(
                f"{folder.path} holds trials, and no resolved.json that says what they ran on. "
                "Choose another folder with --out."
            )
        shutil.rmtree(folder.base, ignore_errors=True)
        folder.plan.unlink(missing_ok=True)
        write_recipe(recipe, folder.recipe)
        return
    changes = _changes(folder, recipe)
    if changes:
        shown = "\n  ".join(changes)
        raise RecipeChangedError(
            f"{folder.path} holds a run of another recipe:\n  {shown}\n"
            "Choose another folder with --out, or undo the change to go on with this one."
        )
    resolved = Resolved.read(folder.resolved)
    changed = with_free_settings(resolved, recipe)
    if changed != resolved:
        changed.write(folder.resolved)
    if changed != resolved or not folder.recipe.is_file():
        write_recipe(recipe, folder.recipe)


def _changes(folder: RunFolder, recipe: Recipe) -> list[str]:
    """What differs from what the run was resolved to in `recipe`, or else in the run's own recipe.yaml, a line each."""
    resolved = Resolved.read(folder.resolved)
    changes = differences_from_resolved(resolved, recipe)
    if changes or not folder.recipe.is_file():
        return changes
    try:
        kept = read_recipe(folder.recipe).recipe
    except RecipeError as error:
        raise RecipeChangedError(
            f"{folder.recipe} cannot be read: {error}\nWithout that file the run goes on as it was resolved."
        ) from None
    return [f"{folder.recipe.name}, {change}" for change in differences_from_resolved(resolved, kept)]
