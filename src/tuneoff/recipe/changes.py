"""What differs between a resolved recipe and a user's, key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneoff.recipe.places import same_value
from tuneoff.recipe.schema import Recipe
from tuneoff.records import Resolved


def differences_from_resolved(resolved: Resolved, new: Recipe) -> list[str]:
    """What changed between a resolved recipe and a user's, a line each: `training.epochs: 1.0 → 3.0`.

    Relative paths of the user's recipe may stand for the resolved one's absolute paths.
    """
    directory, gone = Path(resolved.directory), "(not there)"
    before, after = _flat(resolved.recipe), _flat(new.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key, gone)} → {after.get(key, gone)}"
        for key in {**before, **after}
        if not same_value(key, after.get(key, gone), before.get(key, gone), directory)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}
