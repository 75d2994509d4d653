"""An arm with `sweep` → one arm for each combination of the values, before the recipe is checked.

Everything after reads ordinary arms: the recipe in a run's folder has them, and no `sweep`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneoff.errors import Problem

LONGEST_NAME = 64  # characters of an arm's name, which is that of a folder
NOT_SWEPT = ("method", "tune", "sweep")  # keys of an arm whose settings would differ from arm to arm


@dataclass(frozen=True)
class SweptArm:
    """Where an arm comes from that a sweep made: the arm of the user's recipe, and the settings that were swept."""

    arm: str
    keys: frozenset[str]

    def path(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Where the key at `path`, of the arm that was made, stands in the user's recipe."""
        key = path[2:3]
        return ("arms", self.arm, *(("sweep",) if key and key[0] in self.keys else ()), *path[2:])


@dataclass
class Expansion:
    """A recipe's values without sweeps, which arms were made by them, and what is wrong with the sweeps."""

    values: dict[str, Any]
    made: dict[str, SweptArm] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def expand_sweeps(values: dict[str, Any]) -> Expansion:
    """Put an arm for each combination of the values in the place of every arm with `sweep`, the last key fastest.

    A value that is swept takes the place of one that the arm has besides. What is no mapping of arms is left to the
    recipe's own checks.
    """
    arms = values.get("arms")
    if not isinstance(arms, dict):
        return Expansion(values)
    found = Expansion({**values, "arms": {}})
    # The arms that the user wrote keep their names, whatever stands before them.
    taken = {name for name, arm in arms.items() if not (isinstance(arm, dict) and "sweep" in arm)}
    for name, arm in arms.items():
        if name in taken:
            found.values["arms"][name] = arm
            continue
        found.problems += (problems := _problems(name, arm))
        if problems:
            continue
        rest = {key: value for key, value in arm.items() if key != "sweep"}
        for chosen in _combinations(arm["sweep"]):
            made = arm_name(str(name), chosen)
            problem = _name_problem(made, found.values["arms"].keys() | taken)
            if problem is not None:
                found.problems.append(Problem(("arms", str(name), "sweep"), problem))
                break
            found.values["arms"][made] = {**rest, **chosen}
            found.made[made] = SweptArm(str(name), frozenset(chosen))
    return found


def arm_name(arm: str, settings: Mapping[str, Any]) -> str:
    """The name of the arm that a sweep makes of `arm` with these `settings`: `lora-r16-all-linear`.

    A number, a truth value or null stands behind its key (`lr` for `learning_rate`), a text or a list of texts by
    itself. The decimal point is written `_`, and so is whatever a folder's name should not have.
    """
    return "-".join([arm, *(_part(key, value) for key, value in settings.items())])


def _part(key: str, value: Any) -> str:
    short = "lr" if key == "learning_rate" else _plain(key)
    number = _number(value)
    if number is not None:
        return f"{short}{number}"
    if value is None or isinstance(value, bool):
        return f"{short}-{'null' if value is None else str(value).lower()}"
    parts = value if isinstance(value, list) else [value]
    return "-".join(filter(None, map(_plain, parts))) or short


def _plain(value: Any) -> str:
    """A text without what the name of an arm may not have."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", str(value)).strip("-")


def _number(value: Any) -> str | None:
    """A number as a name has it: 16 → `16`, 0.05 → `0_05`, 0.00025 → `2_5e-4`; None for what is none.

    YAML reads `1e-3` as a text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    text = repr(number)
    if abs(number) < 0.01 and "e" not in text:
        mantissa, exponent = f"{number:.15e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    return re.sub(r"e([-+])0*", lambda match: "e-" if match[1] == "-" else "e", text).replace(".", "_")


def _combinations(sweep: Mapping[str, list[Any]]) -> Iterable[dict[str, Any]]:
    return (dict(zip(sweep, chosen, strict=True)) for chosen in itertools.product(*sweep.values()))


def _problems(name: Any, arm: dict[str, Any]) -> list[Problem]:
    """What is wrong with the sweep of one arm."""
    path, sweep = ("arms", str(name), "sweep"), arm["sweep"]
    if not isinstance(sweep, dict) or not sweep:
        return [Problem(path, f"takes settings and a list of values for each, such as {{r: [4, 16]}}, got {sweep!r}")]
    problems = []
    for key, listed in sweep.items():
        place = (*path, str(key))
        if key in NOT_SWEPT:
            problems.append(Problem(place, f"`{key}` cannot be swept: write an arm for each"))
        elif not isinstance(listed, list) or not listed:
            problems.append(Problem(place, f"takes a list of one value or more, got {listed!r}"))
    return problems


def _name_problem(name: str, taken: Iterable[str]) -> str | None:
    if len(name) > LONGEST_NAME:
        return (
            f"would make an arm called {name}, which has {len(name)} characters and may have {LONGEST_NAME}: "
            "give the arm a shorter name, or sweep fewer settings"
        )
    if name in taken:
        return f"would make an arm called {name}, and there is one of that name"
    return None
