"""Relative paths of a recipe → absolute ones, so that a run means the same files whatever the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneoff.recipe.schema import Recipe

PATHS = {("model", "name"), ("model", "config"), ("model", "tokenizer"), ("data", "source"), ("evaluation", "retain")}


def with_absolute_paths(recipe: Recipe, directory: Path) -> Recipe:
    """`recipe` with every local path absolute; relative ones start from `directory`.

    A name is a path where a folder or file of that name is there; else it is a name on the hub, and stays as it is. The
    files of `data.source` by split and `evaluation.retain` are always paths; `model.gguf` is a file in `model.name`.
    """

    def absolute(value: Any, always: bool = False) -> Any:
        if isinstance(value, str) and (always or (directory / value).exists()):
            return str((directory / value).resolve())
        return value

    model, source = recipe.model, recipe.data.source
    names = {key: absolute(getattr(model, key)) for key in ("name", "config", "tokenizer")}
    placed: Any = absolute(source)
    if isinstance(source, dict):
        placed = {split: absolute(path, always=True) for split, path in source.items()}
    retain = recipe.evaluation.retain
    changed = {
        "model": model.model_copy(update=names),
        "data": recipe.data.model_copy(update={"source": placed}),
        "evaluation": recipe.evaluation.model_copy(update={"retain": absolute(retain, always=True)}),
    }
    return recipe.model_copy(update=changed)


def same_value(key: str, given: Any, resolved: Any, directory: Path) -> bool:
    """Whether `given`, at `key` of a user's recipe, is what `with_absolute_paths` has made `resolved` of."""
    if given == resolved:
        return True
    is_path = tuple(key.split(".")[:2]) in PATHS
    return is_path and isinstance(given, str) and str((directory / given).resolve()) == resolved
