"""Runs that are resolved in this process, as the preparing child does it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tuneoff.data.inputs import read_inputs
from tuneoff.folder import RunFolder
from tuneoff.model.engines import choose_engines
from tuneoff.recipe import Recipe, resolved_recipe, write_recipe
from tuneoff.recipe.places import with_absolute_paths
from tuneoff.records import Resolved
from tuneoff.runner.events import Reporter
from tuneoff.runner.recheck import pins_of, recheck
from tuneoff.runner.resolve import resolve

QUIET = Reporter(io.StringIO())


def begin(values: dict[str, Any], path: Path) -> tuple[Recipe, RunFolder]:
    """A recipe in the new folder of a run."""
    recipe, folder = Recipe.model_validate(values), RunFolder(path)
    write_recipe(recipe, folder.recipe)
    return recipe, folder


def resolved_for(recipe: Recipe, folder: RunFolder, report: Reporter = QUIET) -> Resolved:
    """Resolve a new run."""
    placed = with_absolute_paths(recipe, Path.cwd())
    inputs = read_inputs(placed, folder.base, report)
    engines = choose_engines(inputs.config, placed.arms, placed.training)
    return resolve(placed, folder, inputs, report, engines, micro_batch=placed.training.examples_per_step)


def prepare_again(folder: RunFolder) -> None:
    """What a resumed run does before its trials go on."""
    resolved = Resolved.read(folder.resolved)
    recheck(folder, resolved, read_inputs(resolved_recipe(resolved), folder.base, QUIET, pins_of(resolved)), QUIET)
