"""One arm's steps and generation, predicted: in full, or from few layers where those tell the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from tuneoff.model.device import Precision
from tuneoff.planner.depth import depth_of, shallow
from tuneoff.planner.generation import FakeGeneration, Generating
from tuneoff.planner.inputs import Inputs, Telling
from tuneoff.planner.speed import Speeds
from tuneoff.planner.training import FakeTraining, Micros
from tuneoff.planner.work import Work
from tuneoff.recipe.schema import ArmSpec, Recipe, TrainingSpec
from tuneoff.records import PlannedStep
from tuneoff.train.loop import Work as Examples

FEW = (4, 5)  # layers: the difference is a layer's; with fewer, the peak may lie elsewhere


@dataclass(frozen=True)
class Setting:
    """What all arms of a plan share."""

    recipe: Recipe
    inputs: Inputs
    examples: Examples
    precision: Precision
    libraries: int
    speeds: Speeds
    calibrate: bool
    tell: Telling


class Predictor:
    """Raises ModelError, or whatever a method does that needs values."""

    def __init__(self, arm: ArmSpec, setting: Setting, spec: TrainingSpec) -> None:
        self._arm, self._setting, self._spec = arm, setting, spec
        depth = depth_of(setting.inputs.config)
        self._depth = depth if depth is not None and depth > FEW[-1] else None

    @cached_property
    def training(self) -> FakeTraining:
        """Of the whole model."""
        return self._training(None)

    def memory(self, micro_batches: Micros) -> PlannedStep:
        """The peak of a step: from few layers. `training.memory` is from all."""
        if self._depth is None:
            return self.training.memory(micro_batches)
        two, three = (training.memory(micro_batches) for training in self._few)
        components = {name: int(self._deep(size, three.components[name])) for name, size in two.components.items()}
        return two.model_copy(update={"components": components, "peak": sum(components.values())})

    def work(self, micro_batches: Micros) -> Work:
        """The work of a step: from few layers, exactly."""
        if self._depth is None:
            return self.training.work(micro_batches)
        two, three = (training.work(micro_batches) for training in self._few)
        return self._deep_work(two, three)

    @cached_property
    def generating(self) -> Generating:
        if self._depth is None:
            return self._generation(None)
        two, three = (self._generation(depth) for depth in FEW)
        return Generating(
            int(self._deep(two.peak, three.peak)),
            self._deep_work(two.reading, three.reading),
            self._deep_work(two.token, three.token),
        )

    @cached_property
    def _few(self) -> tuple[FakeTraining, FakeTraining]:
        return self._training(FEW[0]), self._training(FEW[1])

    def _training(self, depth: int | None) -> FakeTraining:
        s = self._setting
        return FakeTraining(self._arm, self._inputs(depth), s.examples, self._spec, s.precision)

    def _generation(self, depth: int | None) -> Generating:
        s = self._setting
        return FakeGeneration(self._arm, self._inputs(depth), self._spec, s.recipe.evaluation, s.precision).predict()

    def _inputs(self, depth: int | None) -> Inputs:
        inputs = self._setting.inputs
        return inputs if depth is None else replace(inputs, config=shallow(inputs.config, depth))

    def _deep(self, two: float, three: float) -> float:
        assert self._depth is not None
        return max(0.0, two + (three - two) * (self._depth - FEW[0]))

    def _deep_work(self, two: Work, three: Work) -> Work:
        return Work(*(self._deep(a, b) for a, b in zip(two.parts(), three.parts(), strict=True)))
