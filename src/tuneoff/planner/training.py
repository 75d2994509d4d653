"""One arm's training step as it would go: its memory and its work, without weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tuneoff.data.inputs import Inputs
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.components import track
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.device import Precision
from tuneoff.model.engines import Engine, engine_for
from tuneoff.model.methods import held_dtype
from tuneoff.planner.alive import Alive, lasting_bytes
from tuneoff.planner.batches import Micros
from tuneoff.planner.fake import FakeWorld
from tuneoff.planner.process import Held, bytes_besides_tensors
from tuneoff.planner.work import CountWork, Work
from tuneoff.recipe.arm import ArmSpec
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import ChosenEngine, PlannedStep
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.loop import Training
from tuneoff.train.probe import single_step
from tuneoff.train.steps import Steps

if TYPE_CHECKING:
    from datasets import Dataset

EXACT_BYTES = 26  # a weight's, read and written in a step of ExactAdamW


Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class PlannedWork:
    """What an arm computes: its method, the settings of its training, and the engine that computes it."""

    spec: ArmSpec
    training: TrainingSpec
    engine: ChosenEngine


def training_for_steps(
    engine: Engine, inputs: Inputs, steps: Steps, spec: TrainingSpec, *, split: bool = False
) -> Training:
    """The training of an adapted model, for single steps on micro-batches that are given one by one.

    `split` says whether a step has several of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Training(
            engine,
            inputs.tokenizer,
            steps,
            spec.model_copy(update={"micro_batch": 1 if split else None, "report_to": []}),
            learning_rate=1e-6,
            folder=TrialFolder(Path(folder)),
            clock=Clock(lambda: None),
        )


class FakeTraining:
    """The training of one arm on fake tensors: the code that a trial runs, without values.

    `split` says whether a step has several micro-batches. Raises ModelError.
    """

    def __init__(
        self,
        arm: PlannedWork,
        inputs: Inputs,
        steps: Steps,
        precision: Precision,
        device: torch.device,
        *,
        split: bool = False,
    ) -> None:
        self._world, self._device = FakeWorld(device), device
        dtype = held_dtype(arm.spec.method, precision.dtype)
        model = self._world.model(inputs.config, arm.spec.method, arm.spec.settings, dtype, steps.count)
        self.parameters = count_parameters(model)
        self._causal = inputs.model_class == "causal"
        self._steps = steps
        engine = engine_for(arm.engine.name, model, bf16=precision.name == "bf16")
        with self._world.entered([]):
            self._training = training_for_steps(engine, inputs, steps, arm.training, split=split)
        self._model, self._optimizer = model, cast(Any, self._training.optimizer)

    def phases(self, micro_batches: Micros) -> dict[str, PlannedStep]:
        """The peak of each phase of a step on these micro-batches (of which the first is the largest), by component.

        The phases are forward, backward and update.
        """
        with self._ready(self._steps.train, micro_batches) as (batches, shape):
            self._make_optimizer_state()
            alive = Alive()

            def step() -> None:
                with alive:
                    single_step(self._training, batches)

            tracked = track(self._model, self._optimizer, step)
        process = bytes_besides_tensors(self._device, len(alive.products))
        return {
            phase: PlannedStep(
                examples=shape[0],
                source_tokens=shape[1],
                target_tokens=0 if self._causal else shape[2],
                peak=sum(components.values()) + process,
                components={**components, "process": process},
                without_slack=tracked.large[phase] + tracked.sums,
            )
            for phase, components in tracked.phases.items()
        }

    def check(self, examples: list[int]) -> Held:
        """The peak of a trial's check of some examples: transformers' own loss and its gradient, without dropout."""
        with self._ready(self._steps.train, [examples]) as (batches, _):
            self._make_optimizer_state()
            return self._held(lambda: self._check(batches[0]))

    def _check(self, batch: Batch) -> None:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._training.engine.bf16):
            loss = self._model(**batch).loss
        loss.backward()
        self._optimizer.zero_grad()

    def validation(self, examples: list[int]) -> Held:
        """The peak of validation on one batch of the validation split, the optimizer's state there."""
        assert self._steps.validation is not None
        with self._ready(self._steps.validation, [examples]) as (batches, _), torch.no_grad():
            self._make_optimizer_state()
            return self._held(lambda: self._training.engine.loss(batches[0]))

    def work(self, micro_batch: list[int]) -> Work:
        """The work of a micro-batch, forward and backward."""
        with self._ready(self._steps.train, [micro_batch]) as (batches, _), CountWork() as counter:
            single_step(self._training, batches, update=False)
        return counter.done

    @cached_property
    def updating(self) -> Work:
        """The work of the optimizer's step."""
        with self._world.entered([]):
            self._make_optimizer_state()
            self._make_gradients()
            with CountWork() as counter:
                self._optimizer.step()
            self._optimizer.zero_grad()
        if isinstance(self._optimizer, ExactAdamW):  # in C++, and unseen
            return counter.done + Work(0.0, EXACT_BYTES * self.parameters.trainable, len(self._optimizer.rests))
        return counter.done

    def _make_optimizer_state(self) -> None:
        """As after a first step: that is when the peak is."""
        if self._optimizer.state:
            return
        self._make_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _make_gradients(self) -> None:
        for weight in self._model.parameters():
            weight.grad = torch.empty_like(weight) if weight.requires_grad else None

    def _held(self, compute: Callable[[], object]) -> Held:
        """What is held at the peak of a computation without dropout."""
        self._model.eval()
        with Alive() as alive:
            compute()
        self._model.train()
        fixed = lasting_bytes(self._model, self._optimizer)
        return alive.held(fixed + bytes_besides_tensors(self._device, len(alive.products)))

    @contextmanager
    def _ready(self, examples: Dataset, micro_batches: Micros) -> Iterator[tuple[list[Batch], tuple[int, int, int]]]:
        """Micro-batches of `examples` without values, to be computed with here, and the first one's padded shape."""
        real = [self._training.collate([examples[i] for i in chosen]) for chosen in micro_batches]
        rows = [count for batch in real for count in self._training.engine.real_rows(batch)]
        first = real[0]
        with self._world.entered(rows):
            shape = (len(first["labels"]), first["input_ids"].shape[1], first["labels"].shape[1])
            yield [self._world.batch(batch) for batch in real], shape
