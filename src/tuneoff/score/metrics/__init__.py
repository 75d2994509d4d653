"""Metrics: how good a text is beside its references. Each file holds one kind, and lists its metrics in `METRICS`."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from functools import cache

from tuneoff.errors import MetricError, Problem, nearest
from tuneoff.score.metrics.base import Loss, Metric, References, Scorer
from tuneoff.score.metrics.own import own_metric, require_function
from tuneoff.score.metrics.squad import token_f1
from tuneoff.signature import signature_fields

__all__ = [
    "Loss",
    "Metric",
    "References",
    "Scorer",
    "agreement",
    "check_metrics",
    "compared_fields",
    "find_metric",
    "find_metrics",
    "metric_of_texts",
    "metrics_signature",
    "shipped_metrics",
]

_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@cache
def shipped_metrics() -> dict[str, Metric]:
    """Every metric that ships, by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {metric.name: metric for module in modules for metric in getattr(module, "METRICS", ())}


def find_metric(name: str, modules: str | None = None) -> Metric:
    """The metric of that name, or the user's own `module:function`, a module in the folder `modules`.

    Raises MetricError.
    """
    found = shipped_metrics().get(name)
    if found is not None:
        return found
    if _OWN.fullmatch(name):
        return own_metric(name, modules)
    hint = f"{nearest(name, shipped_metrics())} A function of your own is named as module:function"
    raise MetricError(f"there is no metric {name!r}; {hint}")


def find_metrics(names: Iterable[str], modules: str | None = None) -> list[Metric]:
    """Those of several names, in their order. Raises MetricError."""
    return [find_metric(name, modules) for name in names]


def metric_of_texts(metrics: Sequence[Metric]) -> Metric:
    """The first of `metrics` that scores texts; the F1 of tokens where none does."""
    return next((metric for metric in metrics if metric.by_text), find_metric("token_f1"))


def agreement(text: str, other: str) -> float:
    """How alike two texts are: the F1 of their tokens."""
    return token_f1(text, other)


def check_metrics(names: Iterable[str], modules: str | None = None) -> list[Problem]:
    """What is wrong with the names of metrics in a recipe. A user's own module is found and read, and not loaded."""
    problems = []
    for place, name in enumerate(names):
        try:
            if name not in shipped_metrics() and _OWN.fullmatch(name):
                require_function(name, modules)
            else:
                find_metric(name)
        except MetricError as error:
            problems.append(Problem(("evaluation", "metrics", str(place)), str(error)))
    return problems


def metrics_signature(scorers: Iterable[Scorer]) -> dict[str, str]:
    """The fields of a signature that several scorers add to it; what they share stands once."""
    return {key: value for scorer in scorers for key, value in scorer.signature.items()}


def compared_fields(signature: str, metrics: Iterable[Metric]) -> dict[str, str]:
    """What scores by `metrics` depend on: the fields of a trial's signature but its seed and those of other metrics."""
    fields = signature_fields(signature)
    if fields.get("metric") == "rouge_score":
        fields.setdefault("tok", "ascii")  # an older tuneoff had no other, and did not say so
    compared = {metric.name.replace(":", ".") for metric in metrics}
    others = {name for name in fields if name in shipped_metrics() or "." in name} - compared
    return {name: value for name, value in fields.items() if name != "seed" and name not in others}
