"""The process of a trial that trains: load → adapt → check → train → save → check what was saved."""

from __future__ import annotations

import gc
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from tuneoff.data.contents import hash_model
from tuneoff.data.tokens import load_tokens
from tuneoff.errors import DamagedFileError
from tuneoff.folder import TrialFolder
from tuneoff.measure import allocator
from tuneoff.measure.environment import describe_environment
from tuneoff.model.engines import ENGINES, engine_for
from tuneoff.model.methods import held_dtype
from tuneoff.model.saved import load_arm, save_whole
from tuneoff.recipe import Trial
from tuneoff.records import Checks, KeptStep, PhaseMemory, Resolved, Trained
from tuneoff.runner.beginning import load_steps, make_ready
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.runner.trial import TrialProcess
from tuneoff.train.checks import TrialChecks
from tuneoff.train.loop import Outcome, Training
from tuneoff.train.probe import StepProbe
from tuneoff.train.steps import count_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TrialTraining(TrialProcess):
    """Trains one arm at one seed, and saves it."""

    def __init__(self, resolved: Resolved, trial: Trial, folder: TrialFolder, report: Reporter, stop: Stop) -> None:
        super().__init__(resolved, trial, folder, report, stop)
        self._times = self._part_times(folder.step_times)
        self._checks: TrialChecks | None = None
        self._probe: StepProbe | None = None
        self._seconds = 0.0  # of training, at the end of the last step
        self._steps = 0  # done by this process
        self._tokens = 0  # of the examples of these steps

    def run(self) -> Trained:
        """Carry the training out and write `trained.json`. Raises StoppedError where it was asked to stop."""
        with self._phase("load"):
            tokenizer = self._tokenizer()
        trained = self._train(tokenizer)
        trained.write(self._folder.trained)
        if self._stop.asked:  # in the last steps: what is trained is saved
            raise StoppedError
        return trained

    def _train(self, tokenizer: PreTrainedTokenizerBase) -> Trained:
        """Train, save, and check what was saved. Returns what was measured."""
        with self._phase("tokenise"):
            count = count_steps(len(load_tokens(self._resolved.tokens["train"])), self._recipe.training)
            steps = load_steps(self._resolved, self._trial.seed, count)
        self._report.phase("load")
        rate = self._resolved.learning_rates[self._trial.arm]
        assert rate is not None  # an arm that trains has one, given or found
        ready = make_ready(
            self._resolved,
            self._trial,
            steps,
            rate,
            tokenizer=tokenizer,
            precision=self._precision,
            folder=self._folder,
            clock=self._clock,
        )
        training, parameters = ready.training, ready.parameters
        self._report.phase("train")
        with self._stop.kept_for_safe_points():
            outcome = training.run(
                lambda resumed: self._before_training(training, resumed),
                lambda done, loss, rate: self._after_update(training, done, loss, rate),
                lambda: self._stop.asked,
            )
        self._times.flush()
        if outcome.stopped:
            raise StoppedError
        whole = self._meter.end_phase()
        loss = self._finish(training)
        with self._phase("save"):
            save_whole(ready.model, tokenizer, self._folder.model, ready.start)
        taken = steps.taken(outcome.steps)
        del ready
        training.release()
        gc.collect()
        checks, saved_sha256 = self._check_saved(loss)
        step_memory = self._step_memory()
        return Trained(
            origin=self._resolved.origin,
            parameters=parameters,
            engine=f"{self._engine_name}: {self._resolved.engines[self._trial.arm].reason}",
            seconds=self._train_seconds(outcome),
            memory=step_memory,
            memory_whole=_larger(whole, step_memory),
            process_peak=self._meter.process_peak(),
            load=self._clock.loads(),
            environment=describe_environment(self._device),
            steps=outcome.steps,
            kept=_kept_step(outcome, steps.count),
            examples=len(taken),
            target_tokens=steps.target_tokens(taken),
            final_loss=outcome.final_loss,
            resumed_from_step=outcome.resumed_from_step,
            checkpoints_rejected=outcome.checkpoints_rejected,
            checks=checks,
            model_sha256=saved_sha256,
        )

    def _train_seconds(self, outcome: Outcome) -> dict[str, float]:
        """Seconds by phase so far, with those of the attempts before a resume."""
        seconds = dict(self._clock.seconds)
        seconds["train"] += outcome.seconds_before
        if outcome.resumed_from_step:
            seconds["redone"] = outcome.redone_seconds
        return seconds

    def _before_training(self, training: Training, resumed: bool) -> None:
        """Measure the components of a step's memory and check the first step; then let the training run."""
        if not resumed:
            self._probe = StepProbe(training, self._meter)
            with self._phase("measure"):
                self._probe.track()
        allocator.quick()
        with self._phase("check"):
            self._checks = checks = TrialChecks(training)
            if resumed and self._folder.checks.is_file():  # of the attempt that this one goes on from
                with suppress(DamagedFileError):  # what was checked before is then checked again, as far as it can be
                    checks.record = Checks.read(self._folder.checks)
            if checks.record.loss is None:
                checks.first_step()
            if checks.record.moved is None:
                checks.watch()
            checks.record.write(self._folder.checks)
        self._report.phase("train")
        if self._probe is not None:
            self._probe.begin()
        else:
            self._meter.start_phase()
        self._seconds = training.train_seconds()

    def _after_update(self, training: Training, done: int, loss: float, learning_rate: float) -> None:
        seconds = training.train_seconds()
        if self._steps == 0:
            self._times.begin(done - 1)
        self._times.note(done, seconds - self._seconds)
        self._seconds, self._steps = seconds, self._steps + 1
        if self._probe is not None and self._steps == 1:
            with self._clock.phase("measure"):
                self._probe.end().write(self._folder.step_memory)
                self._meter.start_phase()
        self._tokens += training.steps.tokens(
            training.steps.examples(done - 1), causal=self._resolved.model_class == "causal"
        )
        self._report.progress(done, training.steps.count, loss, self._tokens)
        assert self._checks is not None
        if self._checks.watching:
            with self._clock.phase("check"):
                self._checks.after_update(learning_rate)
                if not self._checks.watching:
                    self._checks.record.write(self._folder.checks)

    def _finish(self, training: Training) -> float:
        """The trained model's loss on the checked examples; the model then has the weights that are to be saved."""
        assert self._checks is not None
        with self._phase("check"):
            training.round_weights()
            loss = self._checks.trained_loss()
            training.join_weights()
            self._checks.note_trained()
        return loss

    def _check_saved(self, trained_loss: float) -> tuple[Checks, str]:
        """Load what was saved, in the precision of the training, and compare its loss with the trained model's.

        Returns what was checked, and the hash of what was saved.
        """
        assert self._checks is not None
        with self._phase("check"):
            saved_sha256 = hash_model(self._folder.model)
            engine_class = ENGINES[self._engine_name]
            computed = self._precision.dtype
            dtype = computed if engine_class.computes_in_weights_dtype else held_dtype(self._arm.method, computed)
            model = load_arm(self._resolved, self._arm.method, self._folder.model, dtype).to(self._device)
            bf16 = self._precision.name == "bf16"
            self._checks.reloaded(trained_loss, engine_for(self._engine_name, model, bf16=bf16))
        return self._checks.record, saved_sha256

    def _step_memory(self) -> PhaseMemory:
        try:
            return PhaseMemory.read(self._folder.step_memory)
        except DamagedFileError as error:  # of the attempt that this one goes on from
            return PhaseMemory(peak=None, process_peak=None, not_measured=str(error))


def _kept_step(outcome: Outcome, planned: int) -> KeptStep | None:
    if outcome.kept is None:
        return None
    last = outcome.validations[-1]
    return KeptStep(
        step=outcome.kept.step,
        validation_loss=outcome.kept.loss,
        last_loss=last.loss if math.isfinite(last.loss) else None,
        steps_after=outcome.steps - outcome.kept.step,
        seconds_after=round(last.train_seconds - outcome.kept.train_seconds, 3),
        stopped_early=outcome.steps if outcome.steps < planned else None,
        steps_not_done=planned - outcome.steps,
    )


def _larger(one: PhaseMemory, other: PhaseMemory) -> PhaseMemory:
    """The larger of each figure: of a phase that was measured in two parts."""
    fields = ("peak", "process_peak", "reserved_peak", "device_bytes")
    known = {name: [x for x in (getattr(one, name), getattr(other, name)) if x is not None] for name in fields}
    return one.model_copy(update={name: max(values, default=None) for name, values in known.items()})
