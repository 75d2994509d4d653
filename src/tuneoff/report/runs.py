"""The runs that a comparison is of: which arms each one has, and what these are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tuneoff.recipe import KeepSpec
from tuneoff.records import Record
from tuneoff.report.arms import Arm
from tuneoff.score.groups import Groups


class RunArms(Record):
    """The arms of one run, by their names in the comparison.

    Attributes:
        run: The name of its folder.
        arms: Its arms, in the recipe's order.
        original: The original model, untrained; None where the run has none, or it is not finished.
        baseline: Full fine-tuning, against which the others are judged; None where there is none that is finished.
    """

    run: str
    arms: list[str]
    original: str | None
    baseline: str | None


@dataclass(frozen=True)
class OneRun:
    """A run's arms as they stand on disk.

    Attributes:
        name: The name of its folder.
        arms: Its arms, in the recipe's order.
        keep: The share of the baseline's score that its recipe asks to keep.
        groups: The groups of the scored examples; None where each is for itself.
        validation_labels: The number of each validation example's group; None where the recipe names none.
    """

    name: str
    arms: list[Arm]
    keep: float | KeepSpec
    groups: Groups | None = None
    validation_labels: list[int] | None = None

    @property
    def validation_groups(self) -> Groups | None:
        """The groups of the validation examples; None where each is for itself."""
        return Groups.of(self.validation_labels)

    @property
    def finished(self) -> list[Arm]:
        return [arm for arm in self.arms if arm.done]

    def of_method(self, method: str) -> str | None:
        """The name of the first finished arm of a method."""
        return next((arm.name for arm in self.finished if arm.spec.method == method), None)

    @property
    def roles(self) -> RunArms:
        return RunArms(
            run=self.name,
            arms=[arm.name for arm in self.arms],
            original=self.of_method("none"),
            baseline=self.of_method("full"),
        )


def with_common_originals(runs: Sequence[OneRun], prefixes: Sequence[str]) -> list[OneRun]:
    """The same runs, where an untrained model that several of them have is one arm.

    Two untrained arms are the same model where they have as many parameters and wrote the same for every example. The
    arm that stands for several has its name without a run's.
    """
    found: dict[tuple[object, ...], list[Arm]] = {}
    for run in runs:
        for arm in run.finished:
            if not arm.spec.trains:
                found.setdefault(_identity(arm), []).append(arm)
    stands: dict[str, Arm] = {}
    for same in found.values():
        if len(same) > 1:
            bare = next((same[0].name.removeprefix(p) for p in prefixes if same[0].name.startswith(p)), same[0].name)
            taken = {arm.name for arm in stands.values()}
            common = same[0] if bare in taken else replace(same[0], name=bare)
            stands |= {arm.name: common for arm in same}
    return [replace(run, arms=[stands.get(arm.name, arm) for arm in run.arms]) for run in runs]


def every_arm(runs: Sequence[OneRun]) -> list[Arm]:
    """The arms of all runs, each once."""
    return list({arm.name: arm for run in runs for arm in run.arms}.values())


def _identity(arm: Arm) -> tuple[object, ...]:
    assert arm.first is not None
    parameters = arm.first.parameters
    return (
        parameters.total if parameters is not None else None,
        tuple(p.prediction for p in arm.predictions[arm.first.seed]),
    )
