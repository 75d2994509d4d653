"""One arm's steps and generation, predicted: in full, or from few layers where those tell the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

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

DEEP = 16  # layers, beyond which a peak is reckoned from few
PEAK = (4, 5)  # of them: the difference is a layer's; with fewer, the peak may lie elsewhere
WORK = (1, 2)


@dataclass(frozen=True)
class Setting:
    """What all arms of a plan share."""

    recipe: Recipe
    inputs: Inputs
    examples: Examples
    device: torch.device
    precision: Precision
    libraries: int
    speeds: Speeds
    calibrate: bool
    tell: Telling
    generated: dict[tuple[int | None, bool], Generating] = field(default_factory=dict)


class Predictor:
    """Raises ModelError, or whatever a method does that needs values."""

    def __init__(self, arm: ArmSpec, setting: Setting, spec: TrainingSpec) -> None:
        self._arm, self._setting, self._spec = arm, setting, spec
        self._layers = depth_of(setting.inputs.config) or 0  # 0: not to be reckoned with
        self.deep = self._layers > DEEP
        self._made: dict[int, FakeTraining] = {}

    @cached_property
    def training(self) -> FakeTraining:
        """Of the whole model."""
        return self._training(None)

    def memory(self, micro_batches: Micros) -> PlannedStep:
        """The peak of a step: of a deep model from few layers, while `training.memory` is from all."""
        if not self.deep:
            return self.training.memory(micro_batches)
        # Each phase by itself: with depth the peak may move from one to another.
        fewer, more = (self._shallow(depth).phases(micro_batches) for depth in PEAK)
        reckoned = [self._reckon_step(fewer[phase], more[phase]) for phase in fewer]
        return max(reckoned, key=lambda step: step.peak)

    def _reckon_step(self, fewer: PlannedStep, more: PlannedStep) -> PlannedStep:
        components = {
            name: int(self._reckon(PEAK, size, more.components[name])) for name, size in fewer.components.items()
        }
        return fewer.model_copy(update={"components": components, "peak": sum(components.values())})

    def work(self, micro_batch: list[int]) -> Work:
        """The work of a micro-batch, forward and backward: from few layers, exactly."""
        if self._layers <= WORK[-1]:
            return self.training.work(micro_batch)
        return self._reckon_work(WORK, *(self._shallow(depth).work(micro_batch) for depth in WORK))

    @property
    def updating(self) -> Work:
        """The work of an optimizer's step."""
        if self._layers <= WORK[-1]:
            return self.training.updating
        return self._reckon_work(WORK, *(self._shallow(depth).updating for depth in WORK))

    @cached_property
    def generating(self) -> Generating:
        if not self.deep:
            return self._generation(None)
        fewer, more = (self._generation(depth) for depth in PEAK)
        return Generating(
            int(self._reckon(PEAK, fewer.peak, more.peak)),
            self._reckon_work(PEAK, fewer.reading, more.reading),
            self._reckon_work(PEAK, fewer.token, more.token),
        )

    def _shallow(self, depth: int) -> FakeTraining:
        if depth not in self._made:
            self._made[depth] = self._training(depth)
        return self._made[depth]

    def _training(self, depth: int | None) -> FakeTraining:
        s = self._setting
        return FakeTraining(self._arm, self._inputs(depth), s.examples, self._spec, s.precision)

    def _generation(self, depth: int | None) -> Generating:
        s = self._setting
        fake = FakeGeneration(self._arm, self._inputs(depth), self._spec, s.recipe.evaluation, s.precision)
        if not fake.plain_model:
            return fake.predict()
        if (depth, fake.fast) not in s.generated:  # the same for every arm that has no adapters when it writes
            s.generated[depth, fake.fast] = fake.predict()
        return s.generated[depth, fake.fast]

    def _inputs(self, depth: int | None) -> Inputs:
        inputs = self._setting.inputs
        return inputs if depth is None else replace(inputs, config=shallow(inputs.config, depth))

    def _reckon(self, depths: tuple[int, int], first: float, second: float) -> float:
        return max(0.0, first + (second - first) * (self._layers - depths[0]) / (depths[1] - depths[0]))

    def _reckon_work(self, depths: tuple[int, int], first: Work, second: Work) -> Work:
        return Work(*(self._reckon(depths, a, b) for a, b in zip(first.parts(), second.parts(), strict=True)))
