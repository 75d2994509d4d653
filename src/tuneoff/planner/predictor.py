"""One arm's steps and generation, predicted: in full, or from few layers where those tell the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from tuneoff.data.inputs import Inputs
from tuneoff.model.depth import depth_of, shallow
from tuneoff.model.device import Precision
from tuneoff.planner.batches import Batches, Micros
from tuneoff.planner.generation import FakeGeneration, Generating
from tuneoff.planner.process import Held, Process
from tuneoff.planner.speed import Speeds
from tuneoff.planner.training import FakeTraining, PlannedWork
from tuneoff.planner.work import Work
from tuneoff.progress import ProgressListener
from tuneoff.recipe.schema import Recipe
from tuneoff.records import PlannedStep
from tuneoff.train.steps import Steps

DEEP = 16  # layers, beyond which a peak is reckoned from few
PEAK = (4, 5)  # of them: the difference is a layer's; with fewer, the peak may lie elsewhere
WORK = (1, 2)


@dataclass(frozen=True)
class Setting:
    """What all arms of a plan share."""

    recipe: Recipe
    inputs: Inputs
    steps: Steps
    batches: Batches
    device: torch.device
    precision: Precision
    process: Process
    speeds: Speeds
    calibrate: bool
    tell: ProgressListener
    generated: dict[tuple[int | None, str, int], Generating] = field(default_factory=dict)


class Predictor:
    """Predicts the steps and the generation of one arm.

    Every figure may raise ModelError, or whatever a method or an architecture raises that needs values.
    """

    def __init__(self, arm: PlannedWork, setting: Setting) -> None:
        self._arm, self._setting = arm, setting
        self._layers = depth_of(setting.inputs.config) or 0  # 0: the depth says nothing
        self.deep = self._layers > DEEP
        self._generating: dict[int | None, Generating] = {}
        self._made: dict[tuple[int | None, bool], FakeTraining] = {}

    @property
    def checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self._arm.training.activation_checkpointing

    def memory(self, micro_batches: Micros) -> PlannedStep:
        """The peak of a step in bytes, by component."""
        return max(self.phases(micro_batches).values(), key=lambda step: step.peak)

    def phases(self, micro_batches: Micros, *, whole_model: bool = False) -> dict[str, PlannedStep]:
        """The peak of each phase of a step in bytes, by component.

        Those of a deep model are reckoned from few layers, unless the `whole_model` is asked for: each phase by itself,
        since with depth the peak may move from one to another.
        """
        split = len(micro_batches) > 1
        if whole_model or not self.deep:
            return self._training(None, split).phases(micro_batches)
        fewer, more = (self._training(depth, split).phases(micro_batches) for depth in PEAK)
        return {phase: self._reckon_step(fewer[phase], more[phase]) for phase in fewer}

    def check(self, examples: list[int], split: bool) -> Held:
        """The peak of a trial's check on some examples, the state there of an optimizer that `split` tells."""
        return self._training(None, split).check(examples)  # of all layers: with depth its peak moves

    def validation(self, examples: list[int], split: bool) -> Held:
        """The peak of validation on one batch, the state there of an optimizer whose steps are `split` or not."""
        if not self.deep:
            return self._training(None, split).validation(examples)
        return self._reckon_held(*(self._training(depth, split).validation(examples) for depth in PEAK))

    def _reckon_step(self, fewer: PlannedStep, more: PlannedStep) -> PlannedStep:
        components = {
            name: int(self._reckon(PEAK, size, more.components[name])) for name, size in fewer.components.items()
        }
        without_slack = int(self._reckon(PEAK, fewer.without_slack, more.without_slack))
        return fewer.model_copy(
            update={"components": components, "peak": sum(components.values()), "without_slack": without_slack}
        )

    def work(self, micro_batch: list[int]) -> Work:
        """The work of a micro-batch, forward and backward: from few layers, exactly."""
        if self._layers <= WORK[-1]:
            return self._training(None, False).work(micro_batch)
        return self._reckon_work(WORK, *(self._training(depth, False).work(micro_batch) for depth in WORK))

    @property
    def updating(self) -> Work:
        """The work of an optimizer's step."""
        if self._layers <= WORK[-1]:
            return self._training(None, False).updating
        return self._reckon_work(WORK, *(self._training(depth, False).updating for depth in WORK))

    def generating(self, batch_size: int | None) -> Generating:
        """The generation, of so many texts at once (None: as the recipe has it)."""
        if batch_size not in self._generating:
            self._generating[batch_size] = self._generate(batch_size or self._setting.recipe.evaluation.batch_size)
        return self._generating[batch_size]

    def _generate(self, batch_size: int) -> Generating:
        if not self.deep:
            return self._generation(None, batch_size)
        fewer, more = (self._generation(depth, batch_size) for depth in PEAK)
        return Generating(
            self._reckon_held(fewer.held, more.held),
            self._reckon_work(PEAK, fewer.reading, more.reading),
            self._reckon_work(PEAK, fewer.token, more.token),
        )

    def _training(self, depth: int | None, split: bool) -> FakeTraining:
        """The training of a model of `depth` layers (None: of all of them)."""
        if (depth, split) not in self._made:
            s = self._setting
            made = FakeTraining(self._arm, self._inputs(depth), s.steps, s.precision, s.device, split=split)
            self._made[depth, split] = made
        return self._made[depth, split]

    def _generation(self, depth: int | None, batch_size: int) -> Generating:
        s = self._setting
        evaluation = s.recipe.evaluation.model_copy(update={"batch_size": batch_size})
        fake = FakeGeneration(self._arm, self._inputs(depth), evaluation, s.precision, s.device)
        if not fake.plain_model:
            return fake.predict()
        key = depth, self._arm.engine.name, batch_size
        if key not in s.generated:  # the same for every arm that has no adapters when it writes
            s.generated[key] = fake.predict()
        return s.generated[key]

    def _inputs(self, depth: int | None) -> Inputs:
        inputs = self._setting.inputs
        return inputs if depth is None else replace(inputs, config=shallow(inputs.config, depth))

    def _reckon(self, depths: tuple[int, int], first: float, second: float) -> float:
        return max(0.0, first + (second - first) * (self._layers - depths[0]) / (depths[1] - depths[0]))

    def _reckon_held(self, first: Held, second: Held) -> Held:
        return Held(self._reckon(PEAK, first.fixed, second.fixed), self._reckon(PEAK, first.reused, second.reused))

    def _reckon_work(self, depths: tuple[int, int], first: Work, second: Work) -> Work:
        return Work(*(self._reckon(depths, a, b) for a, b in zip(first.parts(), second.parts(), strict=True)))
