"""What differs between two recipes, key by key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneoff.recipe.places import same_value
from tuneoff.recipe.schema import Recipe
from tuneoff.records import Resolved


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What changed between two recipes, a line each: `training.epochs: 1.0 → 3.0`."""
    return _changes(old.model_dump(mode="json"), new.model_dump(mode="json"), lambda _key, was, now: was == now)


def differences_from_resolved(resolved: Resolved, new: Recipe) -> list[str]:
    """What changed between a resolved recipe and a user's, whose relative paths may stand for its absolute ones."""
    directory = Path(resolved.directory)
    return _changes(
        resolved.recipe, new.model_dump(mode="json"), lambda key, was, now: same_value(key, now, was, directory)
    )


def _changes(old: dict[str, Any], new: dict[str, Any], same: Callable[[str, Any, Any], bool]) -> list[str]:
    before, after, gone = _flat(old), _flat(new), "(not there)"
    return [
        f"{key}: {before.get(key, gone)} → {after.get(key, gone)}"
        for key in {**before, **after}
        if not same(key, before.get(key, gone), after.get(key, gone))
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}
