"""One arm's plan."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tuneoff.data.order import epoch_order, micro_batches, padded, token_budget
from tuneoff.errors import ModelError, first_line
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, model_class
from tuneoff.model.depth import widths_of
from tuneoff.model.engines import choose_engines
from tuneoff.model.methods import STEPS, adapt, held_dtype, uses_peft
from tuneoff.planner.calibrate import calibrate, kind_of_step
from tuneoff.planner.fit import Device
from tuneoff.planner.predictor import Predictor, Setting
from tuneoff.planner.speed import Speed, rough
from tuneoff.planner.training import Micros, PlannedWork
from tuneoff.planner.work import Work
from tuneoff.recipe.schema import ArmSpec, TrainingSpec
from tuneoff.records import Advice, Fit, Parameters, PlannedArm, PlannedStep, Range

SAMPLES = 7  # steps whose work is counted, for the work of all


class ArmPlanner:
    """Predicts one arm. Peaks are computed where they are asked for, and once."""

    def __init__(self, name: str, work: PlannedWork, setting: Setting) -> None:
        self.name, self._setting = name, setting
        self._work_of_arm, self._arm, self._spec = work, work.spec, work.training
        self._engine = work.engine
        self._predictor = Predictor(work, setting)
        self._peaks: dict[int, PlannedStep] = {}

    @property
    def trains(self) -> bool:
        return self._arm.trains

    def step(self, micro_batch: int) -> PlannedStep:
        """The peak of the longest step in micro-batches of this size."""
        if micro_batch not in self._peaks:
            self._peaks[micro_batch] = self._predictor.memory(self._longest(micro_batch))
        return self._peaks[micro_batch]

    def _longest(self, micro_batch: int) -> Micros:
        """Two micro-batches of the longest step: beside the second's activations lie the first's gradients."""
        return self._micros(self._order[0], micro_batch)[:2]

    def _longest_step(self, micro_batch: int) -> PlannedStep:
        """The same as `step`, from all layers; known from then on, so that what fits is judged by it, too."""
        if self._predictor.deep:
            self._peaks[micro_batch] = self._predictor.memory(self._longest(micro_batch), whole_model=True)
        return self.step(micro_batch)

    def needs(self, micro_batch: int) -> int:
        """Bytes that a process of the arm holds at most, its libraries included."""
        train = self.step(micro_batch).peak if self._arm.trains else 0
        return self._setting.libraries + max(train, self._predictor.generating.peak)

    def largest(self, capacity: int) -> int | None:
        """The largest micro-batch with which the arm fits."""
        whole, smallest = self.sizes[0], self.sizes[-1]
        if self.needs(whole) <= capacity:
            return whole
        if self.needs(smallest) > capacity:
            return None
        return next(size for size in self.sizes if self.needs(size) <= capacity)

    @property
    def sizes(self) -> list[int]:
        """The micro-batches that the recipe admits, largest first."""
        if self._spec.micro_batch is not None or not self._arm.trains:
            return [self._spec.micro_batch or self._spec.examples_per_step]
        count = self._spec.examples_per_step
        return [size for size in range(count, 0, -1) if count % size == 0]

    def fit(self, device: Device) -> Fit:
        """Whether it fits, and if not, what would."""
        size = self.largest(device.capacity)
        wanted = self._spec.micro_batch or self._spec.examples_per_step
        return Fit(
            device=device.name,
            capacity=device.capacity,
            fits=size is not None,
            micro_batch=size if self._arm.trains else None,
            advice=[] if size == wanted or not self._arm.trains else self._advice(device, size),
        )

    def plan(self, micro_batch: int, devices: Sequence[Device]) -> PlannedArm:
        """All of it, trained in micro-batches of the given size."""
        known = self._known()
        try:
            if not self._arm.trains:
                return known.model_copy(
                    update={
                        "evaluate_peak": self._predictor.generating.peak,
                        **self._times(None),
                        "fits": [self.fit(device) for device in devices],
                    }
                )
            typical = self._order[len(self._order) // 2]
            return known.model_copy(
                update={
                    "engine": f"{self._engine.name}: {self._engine.reason}",
                    "longest": self._longest_step(micro_batch),
                    "typical": self._predictor.memory(self._micros(typical, micro_batch)[:2]),
                    "evaluate_peak": self._predictor.generating.peak,
                    **self._times(micro_batch),
                    "fits": [self.fit(device) for device in devices],
                }
            )
        except Exception as error:  # whatever needs values: of a method, an architecture, or a private API of torch
            return known.model_copy(update={"not_predicted": f"{type(error).__name__}: {first_line(error)}"})

    def _known(self) -> PlannedArm:
        """What arithmetic gives."""
        parameters = self._parameters()
        size = held_dtype(self._arm.method, self._setting.precision.dtype).itemsize
        if not self._arm.trains:
            size = self._setting.precision.dtype.itemsize
        total, trainable = (parameters.total, parameters.trainable) if parameters else (0, 0)
        return PlannedArm(
            arm=self.name,
            method=self._arm.method,
            parameters=parameters,
            # Adapters are fp32; so are AdamW's two moments.
            states={"weights": size * total, "gradients": 4 * trainable, "optimizer": 8 * trainable},
            saved_bytes=4 * (trainable if uses_peft(self._arm.method) else total) if self._arm.trains else None,
        )

    def _parameters(self) -> Parameters | None:
        """Counted on the meta device; None where the method needs values."""
        config = copy.deepcopy(self._setting.inputs.config)
        try:
            with torch.device("meta"):
                model = adapt(build_model(config), self._arm.method, self._arm.settings, model_class(config), STEPS)
        except ModelError:
            return None
        return count_parameters(model)

    @cached_property
    def _order(self) -> list[list[int]]:
        """The examples of each optimizer step of the first epoch: the longest, then from short to long."""
        steps = self._setting.steps
        order = epoch_order(steps.lengths, steps.examples_per_step, steps.seed, 0)
        size = steps.examples_per_step
        first, *others = [order[start : start + size] for start in range(0, len(order), size)]
        return [first, *sorted(others, key=lambda step: self._features(step)[0])]

    def _micros(self, step: list[int], size: int) -> Micros:
        """A step's micro-batches where `size` of the longest examples go at once: split as the trainer does."""
        if size >= self._setting.steps.examples_per_step:
            return [step]
        lengths = self._setting.steps.lengths
        parts = micro_batches([lengths[i] for i in step], size * self._budget)
        return [[step[i] for i in part] for part in parts]

    @cached_property
    def _budget(self) -> int:
        """Of a micro-batch of one: it grows with the size."""
        return token_budget(self._setting.steps.lengths, 1)

    def _features(self, micro_batch: list[int]) -> np.ndarray:
        """What the work of a micro-batch is a sum of: padded tokens, pairs of them, the targets' rows, and itself."""
        lengths = [self._setting.steps.lengths[i] for i in micro_batch]
        s, t = (padded(max(values)) for values in zip(*lengths, strict=True))
        b, rows = len(micro_batch), sum(target for _, target in lengths)
        return np.array([b * s, b * s * s, b * t, b * t * t, b * s * t, rows, 1.0])

    def _times(self, micro_batch: int | None) -> dict[str, Any]:
        """Seconds of training (None: there is none), of evaluation and of both; and what they are reckoned by."""
        speed = self._speed(micro_batch)
        generating, evaluation = self._predictor.generating, self._setting.recipe.evaluation
        usual = self._setting.inputs.data[evaluation.split]
        short = min(max(1.0, usual.target_tokens / max(1, usual.references)), evaluation.max_new_tokens)
        reading = speed.seconds(generating.reading)
        least, most = (speed.seconds(generating.token * count) for count in (short, evaluation.max_new_tokens))
        evaluate = Range(value=reading.value + least.value, low=reading.low + least.low, high=reading.high + most.high)
        if micro_batch is None:
            return {"seconds": {"evaluate": evaluate, "total": evaluate}, "speed": speed.source}
        train = speed.seconds(self._work(micro_batch))
        total = Range(**{key: getattr(train, key) + getattr(evaluate, key) for key in ("value", "low", "high")})
        return {"seconds": {"train": train, "evaluate": evaluate, "total": total}, "speed": speed.source}

    def _work(self, micro_batch: int) -> Work:
        """The work of all steps: that of a few micro-batches is counted, and is linear in `_features`."""
        every = [micro for step in self._order for micro in self._micros(step, micro_batch)]
        every.sort(key=lambda micro: self._features(micro)[0])
        chosen = [every[place] for place in _spread(len(every), SAMPLES)]
        matrix = np.array([self._features(micro) for micro in chosen])
        works = np.array([self._predictor.work(micro).parts() for micro in chosen])
        scale = matrix.max(0).clip(min=1.0)
        weights, *_ = np.linalg.lstsq(matrix / scale, works, rcond=None)
        epoch = sum(self._features(micro) for micro in every) / scale @ weights
        steps = self._setting.steps.count
        return Work(*epoch.tolist()) * (steps / len(self._order)) + self._predictor.updating * steps

    def _speed(self, micro_batch: int | None) -> Speed:
        s = self._setting
        if micro_batch is None:
            kinds = [kind_of_step(self._engine.name, s.precision, few) for few in (True, False)]
        else:
            kinds = [kind_of_step(self._engine.name, s.precision, uses_peft(self._arm.method))]
        model = widths_of(s.inputs.config)
        if s.calibrate and micro_batch is not None:
            s.tell.phase(f"calibrate {self.name}")
            ordered = [*self._order[1:], self._order[0]]
            steps = [self._micros(ordered[place], micro_batch) for place in _spread(len(ordered), 3)]
            speed = calibrate(self._work_of_arm, s.inputs, s.steps, s.precision, steps, s.tell.progress)
            s.speeds.keep(kinds[0], model, speed)
        known = (s.speeds.find(kind, model) for kind in kinds)
        return next((speed for speed in known if speed), None) or rough(s.precision.dtype, s.device)

    def _advice(self, device: Device, fitting: int | None) -> list[Advice]:
        """Changes that make the arm smaller, from the least to the most; after the first that fits, no more."""
        advice = []
        if fitting is not None:
            return [Advice(change=f"training.micro_batch={fitting}", peak=self.needs(fitting), fits=True)]
        smallest = self.sizes[-1]
        wanted = self._spec.micro_batch or self._spec.examples_per_step
        if smallest != wanted:
            advice.append(Advice(change=f"training.micro_batch={smallest}", peak=self.needs(smallest), fits=False))
        for change, other in self._others:
            try:
                peak = other.needs(1)
            except Exception:  # a variant that cannot be computed is no advice
                continue
            advice.append(Advice(change=change, peak=peak, fits=peak <= device.capacity))
            if peak <= device.capacity:
                break
        return advice

    @cached_property
    def _others(self) -> list[tuple[str, ArmPlanner]]:
        """Variants of the arm that need less, each at a micro-batch of 1."""
        small = self._spec.model_copy(update={"micro_batch": 1})
        checkpointed = small.model_copy(update={"activation_checkpointing": True})
        found = []
        if self._spec.micro_batch not in (None, 1):
            found.append(("training.micro_batch=1", self._variant(self._arm, small)))
        change = "training.micro_batch=1, training.activation_checkpointing=true"
        if not self._spec.activation_checkpointing:
            found.append((change, self._variant(self._arm, checkpointed)))
        if not uses_peft(self._arm.method):
            lora = ArmSpec(method="lora", learning_rate=1e-3, r=8)
            found.append((f"{change}, and LoRA (r=8) in its place", self._variant(lora, checkpointed)))
        elif int(self._arm.settings.get("r", 0)) > 8:
            lower = self._arm.model_copy(update={"r": 8})
            found.append((f"{change}, arms.{self.name}.r=8", self._variant(lower, checkpointed)))
        return found

    def _variant(self, arm: ArmSpec, training: TrainingSpec) -> ArmPlanner:
        engine = choose_engines(self._setting.inputs.config, {self.name: arm}, training)[self.name]
        return ArmPlanner(self.name, PlannedWork(arm, training, engine), self._setting)


def _spread(count: int, wanted: int) -> list[int]:
    """Places spread evenly over `count`, from the first to the last."""
    places = np.linspace(0, count - 1, min(wanted, count)).round().astype(int)
    return list(dict.fromkeys(places.tolist()))
