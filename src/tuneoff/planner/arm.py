"""One arm's plan."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tuneoff.errors import ModelError, first_line
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, model_class
from tuneoff.model.depth import widths_of
from tuneoff.model.engines import choose_engines
from tuneoff.model.methods import STEPS, adapt, held_dtype, uses_peft
from tuneoff.planner.calibrate import calibrate, kind_of_step
from tuneoff.planner.fit import Device
from tuneoff.planner.memory import ArmMemory
from tuneoff.planner.predictor import Predictor, Setting
from tuneoff.planner.speed import Speed, rough
from tuneoff.planner.training import PlannedWork
from tuneoff.planner.work import Work
from tuneoff.recipe.arm import RANK, ArmSpec
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import Advice, Fit, Parameters, PlannedArm, Range

SAMPLES = 7  # steps whose work is counted, for the work of all


class ArmPlanner:
    """Predicts one arm; `memory` has its peaks."""

    def __init__(self, name: str, work: PlannedWork, setting: Setting) -> None:
        self.name, self._setting = name, setting
        self._work_of_arm, self._arm, self._spec = work, work.spec, work.training
        self._engine, self._batches = work.engine, setting.batches
        self._predictor = Predictor(work, setting)
        vocabulary = int(getattr(setting.inputs.config, "vocab_size", 0))
        self.memory = ArmMemory(self._predictor, setting.batches, setting.process, vocabulary, work.spec.trains)

    @property
    def trains(self) -> bool:
        return self._arm.trains

    def largest(self, capacity: int) -> int | None:
        """The largest micro-batch with which training fits; the smallest where that may fit, as predictions err.

        None where not even that may, or where generation does not, on which the micro-batch has no bearing.
        """
        process, peak = self._setting.process, self.memory.training_process_peak
        generation = self.memory.generation_process_peak(None)
        if generation > capacity and not process.is_tight(generation, capacity):
            return None
        if peak(self.sizes[0]) <= capacity:
            return self.sizes[0]
        needed = peak(self.sizes[-1])
        if needed > capacity:
            return self.sizes[-1] if process.is_tight(needed, capacity) else None
        return next(size for size in self.sizes if peak(size) <= capacity)

    @property
    def sizes(self) -> list[int]:
        """The micro-batches that the recipe admits, largest first."""
        if self._spec.micro_batch is not None or not self._arm.trains:
            return [self._spec.micro_batch or self._spec.examples_per_step]
        count = self._spec.examples_per_step
        return [size for size in range(count, 0, -1) if count % size == 0]

    def fit(self, device: Device) -> Fit:
        """Whether it fits, how surely, and if not, what would."""
        size = self.largest(device.capacity)
        needed = self.memory.process_peak(size or self.sizes[-1])
        fitting = size if needed <= device.capacity else None
        wanted = self._spec.micro_batch or self._spec.examples_per_step
        tight = self._setting.process.is_tight(needed, device.capacity)
        return Fit(
            device=device.name,
            capacity=device.capacity,
            fits="no" if size is None else "tight" if tight else "yes",
            micro_batch=size if self._arm.trains else None,
            advice=[] if fitting == wanted else self._advice(device, fitting),
        )

    def plan(self, micro_batch: int, devices: Sequence[Device]) -> PlannedArm:
        """All of it, trained in micro-batches of the given size."""
        known = self._known()
        try:
            found: dict[str, Any] = {"evaluate_peak": self.memory.generation.peak}
            if self._arm.trains:
                longest = self.memory.longest_of_all_layers(micro_batch)
                validation = self.memory.validation(micro_batch)
                found |= {
                    "engine": f"{self._engine.name}: {self._engine.reason}",
                    "longest": longest,
                    "typical": self.memory.typical(micro_batch),
                    "validate_peak": validation.peak if validation else None,
                }
            found |= {
                "process_peak": self.memory.process_peak(micro_batch),
                "slack": self.memory.slack(micro_batch),
                **self._times(micro_batch if self._arm.trains else None),
                "fits": [self.fit(device) for device in devices],
            }
            return known.model_copy(update=found)
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
            rank=self._arm.settings.get(RANK) if self._arm.params is not None else None,
            asked=self._arm.params,
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

    def _times(self, micro_batch: int | None) -> dict[str, Any]:
        """Seconds of training (None: there is none), of evaluation and of both; and what they are reckoned by."""
        speed = self._speed(micro_batch)
        generating, evaluation = self._predictor.generating(None), self._setting.recipe.evaluation
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
        every = [micro for step in self._batches.order for micro in self._batches.micros(step, micro_batch)]
        every.sort(key=lambda micro: self._batches.features(micro)[0])
        chosen = [every[place] for place in _spread(len(every), SAMPLES)]
        matrix = np.array([self._batches.features(micro) for micro in chosen])
        works = np.array([self._predictor.work(micro).parts() for micro in chosen])
        scale = matrix.max(0).clip(min=1.0)
        weights, *_ = np.linalg.lstsq(matrix / scale, works, rcond=None)
        epoch = sum(self._batches.features(micro) for micro in every) / scale @ weights
        steps = self._setting.steps.count
        return Work(*epoch.tolist()) * (steps / len(self._batches.order)) + self._predictor.updating * steps

    def _speed(self, micro_batch: int | None) -> Speed:
        s = self._setting
        if micro_batch is None:
            kinds = [kind_of_step(self._engine.name, s.precision, few) for few in (True, False)]
        else:
            kinds = [kind_of_step(self._engine.name, s.precision, uses_peft(self._arm.method))]
        model = widths_of(s.inputs.config)
        if s.calibrate and micro_batch is not None:
            s.tell.phase(f"calibrate {self.name}")
            ordered = [*self._batches.order[1:], self._batches.order[0]]
            steps = [self._batches.micros(ordered[place], micro_batch) for place in _spread(len(ordered), 3)]
            speed = calibrate(self._work_of_arm, s.inputs, s.steps, s.precision, steps, s.tell.progress)
            s.speeds.keep(kinds[0], model, speed)
        known = (s.speeds.find(kind, model) for kind in kinds)
        return next((speed for speed in known if speed), None) or rough(s.precision.dtype, s.device)

    def _advice(self, device: Device, fitting: int | None) -> list[Advice]:
        """Changes that make the arm smaller, from the least to the most; after the first that fits, no more."""
        if fitting is not None:
            peak = self.memory.process_peak(fitting)
            return [Advice(change=f"training.micro_batch={fitting}", peak=peak, fits=True)]
        if self.memory.generation_process_peak(None) > device.capacity:
            training = self.memory.training_process_peak(self.sizes[-1])
            more = self._advice_for_training(device) if training > device.capacity else []
            return [*self._advice_for_generation(device), *more]
        return self._advice_for_training(device)

    def _advice_for_training(self, device: Device) -> list[Advice]:
        smallest, wanted = self.sizes[-1], self._spec.micro_batch or self._spec.examples_per_step
        advice = []
        if smallest != wanted:
            peak = self.memory.training_process_peak(smallest)
            advice.append(Advice(change=f"training.micro_batch={smallest}", peak=peak, fits=peak <= device.capacity))
        for change, other in self._others:
            try:
                peak = other.memory.training_process_peak(1)
            except Exception:  # a variant that cannot be computed is no advice
                continue
            advice.append(Advice(change=change, peak=peak, fits=peak <= device.capacity))
            if peak <= device.capacity:
                break
        return advice

    def _advice_for_generation(self, device: Device) -> list[Advice]:
        """The largest batch of fewer texts, halved again and again, with which generation fits; else a single text."""
        size = self._setting.recipe.evaluation.batch_size
        while size > 1:
            size //= 2
            peak = self.memory.generation_process_peak(size)
            if size == 1 or peak <= device.capacity:
                return [Advice(change=f"evaluation.batch_size={size}", peak=peak, fits=peak <= device.capacity)]
        return []

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
