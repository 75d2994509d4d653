"""Relative paths of a recipe → absolute ones, so that a run means the same files whatever the working directory."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tuneoff.errors import Problem, RecipeError
from tuneoff.recipe.schema import Recipe

Key = tuple[str, ...]

PATHS = {("model", "name"), ("model", "config"), ("model", "tokenizer"), ("data", "source"), ("evaluation", "retain")}


def with_absolute_paths(recipe: Recipe, directory: Path, overridden: Collection[Key] = ()) -> Recipe:
    """`recipe` with every local path absolute. Relative ones start from `directory`, which is the recipe file's.

    Values at `overridden` keys come from the command line, and start from the working directory. A name is a path where
    it looks like one (`is_path`), or where a folder or file of that name is there; otherwise it is a name on the hub,
    and stays as it is. The files of `data.source` by split and `evaluation.retain` are always paths; `model.gguf` is a
    file in `model.name`. Modules of the user's own metrics are looked for in `directory` (`evaluation.modules`).

    Raises RecipeError where a name is found in the working directory alone, from which a recipe's paths do not start.
    """
    problems: list[Problem] = []

    def absolute(value: Any, *key: str, always: bool = False) -> Any:
        if not isinstance(value, str):
            return value
        given = any(key[: len(other)] == other for other in overridden)
        start = Path.cwd() if given or value.startswith("~") else directory
        # Not resolved: a link's own name has the suffix by which a data file is read.
        place = os.path.abspath(start / Path(value).expanduser())  # noqa: PTH100
        if Path(place).exists():
            return place
        if Path(value).exists() and not Path(value).is_absolute():
            problems.append(Problem(key, _misplaced(value, place, start)))
        return place if always or is_path(value) else value

    model, source, evaluation = recipe.model, recipe.data.source, recipe.evaluation
    # The name of a GGUF file's folder is a part of the path that is given as `model.gguf`.
    of_gguf = ("model", "gguf") in overridden and ("model", "name") not in overridden and _is_there(model.name)
    names = {key: absolute(getattr(model, key), "model", key) for key in ("config", "tokenizer")}
    names["name"] = absolute(model.name, "model", "gguf" if of_gguf else "name")
    placed: Any = absolute(source, "data", "source")
    if isinstance(source, dict):
        placed = {split: absolute(path, "data", "source", split, always=True) for split, path in source.items()}
    changed_evaluation = {"retain": absolute(evaluation.retain, "evaluation", "retain", always=True)}
    if any(":" in metric for metric in evaluation.metrics):
        of_metrics = absolute(evaluation.modules, "evaluation", "modules", always=True)
        from_here = ("evaluation", "metrics") in overridden
        changed_evaluation["modules"] = of_metrics or str(Path.cwd() if from_here else directory.absolute())
    if problems:
        raise RecipeError(problems)
    changed = {
        "model": model.model_copy(update=names),
        "data": recipe.data.model_copy(update={"source": placed}),
        "evaluation": evaluation.model_copy(update=changed_evaluation),
    }
    return recipe.model_copy(update=changed)


def is_path(name: str) -> bool:
    """Whether a name can only be a path: no name of the hub begins so, or has two slashes."""
    return name.startswith((".", "~")) or name.count("/") > 1 or Path(name).is_absolute()


def _is_there(name: str | None) -> bool:
    return name is not None and Path(name).exists()


def _misplaced(value: str, place: str, start: Path) -> str:
    return (
        f"there is no {place}: a path in a recipe starts from the recipe's own folder, and {value} lies in the working "
        f"directory. Write {os.path.relpath(value, start)}"
    )


def same_value(key: str, given: Any, resolved: Any, directory: Path) -> bool:
    """Whether `given`, at `key` of a user's recipe, is what `with_absolute_paths` has made `resolved` of.

    `directory` is where relative paths of older runs' recipes start.
    """
    if given == resolved:
        return True
    is_place = tuple(key.split(".")[:2]) in PATHS and isinstance(given, str) and isinstance(resolved, str)
    return is_place and (directory / given).resolve() == Path(resolved).resolve()
