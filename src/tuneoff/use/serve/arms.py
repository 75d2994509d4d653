"""The arms that are served, and examples to try them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.recipe import recipe_of
from tuneoff.records import Prediction, Resolved
from tuneoff.report.arms import read_arms
from tuneoff.report.side_by_side import spread
from tuneoff.runner.finished import Finished

EXAMPLES = 12


@dataclass(frozen=True)
class Served:
    """The arms of a run that are served, each at its first finished seed; the names of those that are not finished;
    examples of the scored split, spread evenly over it, so that they are the same for every run on these data.
    """

    folder: RunFolder
    arms: list[Finished]
    unfinished: list[str]
    examples: list[Prediction]


def choose_arms(folder: RunFolder, names: Sequence[str]) -> Served:
    """The arms `names`, or every finished one where none is named, in the recipe's order.

    Raises RunFolderError where one of `names` is unknown or not finished, or where nothing has finished.
    """
    resolved = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
    found = read_arms(folder, recipe_of(folder), resolved, [])
    done = {arm.name: arm for arm in found if arm.first}
    for name in names:
        if name not in done:
            Finished(folder, name)  # says what is wrong
    if not done:
        raise RunFolderError(
            f"{folder.path}: no arm has finished. `tuneoff run --out {folder.path}` goes on with them."
        )
    every = next(iter(next(iter(done.values())).predictions.values()))
    return Served(
        folder=folder,
        arms=[Finished(folder, name) for name in done if name in (names or done)],
        unfinished=[arm.name for arm in found if not arm.first and not names],
        examples=spread(every, EXAMPLES),
    )
