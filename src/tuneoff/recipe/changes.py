"""What differs between a resolved recipe and a user's, key by key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from tuneoff.recipe.places import same_value
from tuneoff.recipe.schema import Recipe
from tuneoff.records import FREE_OF_TRAINING, Resolved


def with_free_settings(resolved: Resolved, new: Recipe) -> Resolved:
    """`resolved` with the settings of `new` that no result hangs on."""
    given, recipe = new.model_dump(mode="json"), copy.deepcopy(resolved.recipe)
    recipe["training"] |= {key: given["training"][key] for key in FREE_OF_TRAINING}
    recipe["words"], recipe["diagnose"] = given["words"], given["diagnose"]
    retain, before = new.evaluation.retain, recipe["evaluation"].get("retain")
    if not same_value("evaluation.retain", retain, before, Path(resolved.directory)):
        recipe["evaluation"]["retain"] = retain
    if recipe["evaluation"].get("modules") != new.evaluation.modules:
        recipe["evaluation"]["modules"] = new.evaluation.modules
    recipe["data"]["allow_overlap"] = given["data"]["allow_overlap"]
    return resolved.model_copy(update={"recipe": recipe})


def differences_from_resolved(resolved: Resolved, new: Recipe) -> list[str]:
    """What changed between a resolved recipe and a user's, a line each: `training.epochs: 1.0 → 3.0`.

    Nothing is told of what no result hangs on (`with_free_settings`).

    Relative paths of the user's recipe may stand for the resolved one's absolute paths.
    """
    directory, gone = Path(resolved.directory), "(not there)"
    old = Recipe.model_validate(resolved.recipe)  # an older tuneoff wrote none of the keys that came since
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for one, other in ((before, after), (after, before)):  # an arm that is in one of them alone is one difference
        one["arms"] = {
            name: arm if name in other["arms"] else f"an arm of {arm['method']}" for name, arm in one["arms"].items()
        }
    before, after = _flat(before), _flat(after)
    return [
        f"{key}: {before.get(key, gone)} → {after.get(key, gone)}"
        for key in {**before, **after}
        if key not in {f"training.{free}" for free in FREE_OF_TRAINING}
        and not key.startswith(("words.", "diagnose", "data.allow_overlap", "evaluation.retain", "evaluation.modules"))
        and not same_value(key, after.get(key, gone), before.get(key, gone), directory)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}
