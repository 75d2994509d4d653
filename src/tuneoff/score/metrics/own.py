"""A metric of the user's own: a function of a module, which a recipe names as `module:function`."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tuneoff.errors import MetricError, first_line, nearest
from tuneoff.score.metrics.base import Metric, Scorer


def own_metric(name: str, modules: str | None) -> Metric:
    """The metric of `module:function`: called with a text and one reference, it returns a figure in 0…1.

    The module is looked for in the folder `modules`, too (in the working directory, if it is None). Nothing of it is
    loaded before the metric is prepared.
    """
    _, _, function = name.partition(":")
    return Metric(name, function, function[:10], f"{function} × 100", "best", lambda _: _prepare(name, modules))


def require_function(name: str, modules: str | None) -> None:
    """Raise MetricError where there is no such module, or where its file does not define the function."""
    module, _, function = name.partition(":")
    folder = modules or str(Path.cwd())
    top = module.partition(".")[0]
    found = PathFinder.find_spec(top, [*sys.path, folder])
    if found is None and top not in sys.builtin_module_names:
        here = [path.stem for path in Path(folder).glob("*.py")] if Path(folder).is_dir() else []
        hint = nearest(top, here)
        near = f"; {hint}" if hint.startswith("did you mean") else ""
        raise MetricError(f"there is no module {top!r} for the metric {name!r} in {folder}{near}")
    if found is None or module != top or not found.origin or not found.origin.endswith(".py"):
        return
    names = _names(Path(found.origin))
    if names is not None and function not in names:
        raise MetricError(f"{found.origin} has no function {function!r}; {nearest(function, names)}")


def _names(file: Path) -> list[str] | None:
    """What a module's file names at its top level; None where that cannot be told without loading it."""
    names: list[str] = []
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        return None
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in statement.names]
        elif isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
            names += [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif not isinstance(statement, ast.Expr | ast.AnnAssign):  # a condition or a loop may name more
            return None
    return None if "*" in names else names


def _prepare(name: str, modules: str | None) -> Scorer:
    function = _load(name, modules)
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # written in C, say
        source = name
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]

    def score(text: str, references: Sequence[str]) -> list[float]:
        return [_figure(name, function, text, reference) for reference in references]

    return Scorer(score, signature={name.replace(":", "."): digest})


def _load(name: str, modules: str | None) -> Callable[[str, str], Any]:
    module, _, function = name.partition(":")
    here = modules or str(Path.cwd())
    added = here not in sys.path and os.pathsep not in here
    if added:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the module does when it is loaded
        raise MetricError(
            f"the metric {name!r} cannot be loaded: {type(error).__name__}: {first_line(error)}"
        ) from None
    finally:
        if added:
            sys.path.remove(here)
    if not callable(found):
        raise MetricError(f"the metric {name!r} is no function")
    return found


def _figure(name: str, function: Callable[[str, str], Any], text: str, reference: str) -> float:
    try:
        value = float(function(text, reference))
    except Exception as error:
        raise MetricError(
            f"the metric {name!r} failed on {text!r}: {type(error).__name__}: {first_line(error)}"
        ) from None
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise MetricError(f"the metric {name!r} is to return a figure from 0 to 1, and gave {value:g} for {text!r}")
    return value
