"""What differs between runs that are compared on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneoff.report.provenance import Provenance
from tuneoff.units import NONE

DIGITS = 12  # of a hash
OF_THE_RUN = ("words",)  # parts of a recipe on which no figure hangs


def run_differences(ran: Sequence[Provenance]) -> dict[str, list[str]]:
    """Where the runs differ: the place in the recipe, or a name, with the value of each run."""
    facts = [dict(_facts(one)) for one in ran]
    names = list(dict.fromkeys(name for own in facts for name in own))
    shown = {name: [own.get(name, NONE) for own in facts] for name in names}
    return {name: values for name, values in shown.items() if len(set(values)) > 1}


def _facts(one: Provenance) -> Iterator[tuple[str, str]]:
    yield "model's commit or hash", one.model_revision or _digits(one.model_sha256)
    for split, found in one.splits.items():
        yield f"content of split {split}", _digits(found.content_sha256)
    yield "precision", one.precision or NONE
    yield "micro-batch", str(one.micro_batch or NONE)
    for arm in one.arms:
        name = arm.arm.removeprefix(f"{one.run}/")
        yield f"engine of {name}", arm.engine or NONE
        yield f"learning rate of {name}", str(arm.settings.get("learning_rate", NONE))
        yield f"steps of {name}", str(arm.steps or NONE)
    for name in ("device_name", "cpu", "threads", "python"):
        yield name.replace("_", " "), "; ".join(dict.fromkeys(str(e.get(name, NONE)) for e in one.environments)) or NONE
    for package in dict.fromkeys(name for e in one.environments for name in e.get("packages", {})):
        versions = (str(e.get("packages", {}).get(package, NONE)) for e in one.environments)
        yield package, "; ".join(dict.fromkeys(versions))
    yield from _flat({part: value for part, value in one.recipe.items() if part not in OF_THE_RUN})


def _flat(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a recipe, each by its place: `training.epochs`."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{place}{name}.")
        elif value not in (None, [], {}):
            yield f"{place}{name}", str(value)


def _digits(sha256: str | None) -> str:
    return sha256[:DIGITS] if sha256 is not None else NONE
