"""What can be checked of a recipe within a second: names, files and columns, before torch is loaded."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from tuneoff.data.columns import check_data
from tuneoff.data.model_folder import check_model_files
from tuneoff.data.retained import retained_texts
from tuneoff.errors import DataError, Problem, RecipeError, nearest
from tuneoff.model.methods import OWN
from tuneoff.recipe.schema import Recipe
from tuneoff.score.metrics import check_metrics


def require_early(recipe: Recipe, *, weights: bool = False) -> None:
    """Raise RecipeError with all that is wrong with the names, files and columns of `recipe`.

    `data.inputs.read_inputs` checks the rest, with the libraries that know it. With `weights`, the model's folder must
    have weights that can be loaded, which a plan does without.
    """
    problems = [
        *_check_methods(recipe),
        *_check_scheduler(recipe.training.lr_scheduler_type),
        *check_metrics(recipe.evaluation.metrics, recipe.evaluation.modules),
        *check_model_files(recipe.model, weights=weights),
        *check_data(recipe),
        *_check_retained(recipe),
    ]
    if problems:
        raise RecipeError(problems)


def _check_methods(recipe: Recipe) -> list[Problem]:
    known = [*OWN, *(name.lower() for name in _enum_values("peft", "utils/peft_types.py", "PeftType"))]
    return [
        Problem(("arms", name, "method"), f"no method {arm.method!r}; {nearest(arm.method, known)}")
        for name, arm in recipe.arms.items()
        if len(known) > len(OWN) and arm.method not in known
    ]


def _check_scheduler(name: str) -> list[Problem]:
    known = _enum_values("transformers", "trainer_utils.py", "SchedulerType")
    if not known or name in known:
        return []
    return [Problem(("training", "lr_scheduler_type"), f"no scheduler {name!r}; {nearest(name, known)}")]


def _check_retained(recipe: Recipe) -> list[Problem]:
    path = recipe.evaluation.retain
    if path is None or recipe.diagnose is None:
        return []
    try:
        retained_texts(path)
    except DataError as error:
        return [Problem(("evaluation", "retain"), str(error))]
    return []


def _enum_values(package: str, file: str, name: str) -> list[str]:
    """The values of an enumeration of texts in a package's file. It is read and not loaded, which would take seconds.

    Empty where it is not there as expected; the package itself is asked later.
    """
    spec = find_spec(package)
    try:
        assert spec is not None and spec.origin is not None
        tree = ast.parse((Path(spec.origin).parent / file).read_bytes())
    except (AssertionError, OSError, SyntaxError):
        return []
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), [])
    values = (node.value for node in body if isinstance(node, ast.Assign))
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
