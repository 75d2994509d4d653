"""One trial from start to finish: load → adapt → train → save → load what was saved → generate → score."""

from __future__ import annotations

import gc
import shutil
from typing import TYPE_CHECKING, Any

import peft  # noqa: F401  in every arm, or the first to need it would be charged for its memory

from tuneoff.data.tokens import load_tokens
from tuneoff.decode.generate import generate
from tuneoff.folder import TrialFolder, write_lines
from tuneoff.measure import allocator
from tuneoff.measure.clock import Clock
from tuneoff.measure.environment import describe_environment
from tuneoff.measure.memory import MemoryMeter
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.device import pick_device, settled_precision, synchronize
from tuneoff.model.engines import ENGINES, engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.model.methods import held_dtype
from tuneoff.model.saved import load_arm, save_whole
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Trial, resolved_recipe
from tuneoff.records import (
    Checks,
    Memory,
    Parameters,
    PhaseMemory,
    Prediction,
    Resolved,
    Trained,
    TrialResult,
)
from tuneoff.runner.beginning import load_steps, make_ready
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.score.rouge import rouge, rouge_version
from tuneoff.score.summary import summarise
from tuneoff.signature import signature
from tuneoff.train.checks import TrialChecks
from tuneoff.train.loop import Outcome, Training
from tuneoff.train.probe import probe_step
from tuneoff.train.steps import count_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TrialRun:
    """One trial in this process. Made before the model is loaded, since memory is measured from there."""

    def __init__(self, resolved: Resolved, trial: Trial, folder: TrialFolder, report: Reporter, stop: Stop) -> None:
        self._resolved, self._trial, self._folder = resolved, trial, folder
        self._report, self._stop = report, stop
        self._recipe = resolved_recipe(resolved)
        self._arm = self._recipe.arms[trial.arm]
        self._engine_name = resolved.engines[trial.arm].name
        self._device = pick_device()
        self._precision = settled_precision(resolved.precision, resolved.precision_reason, self._device)
        self._clock = Clock(lambda: synchronize(self._device))
        allocator.tidy()
        self._meter = MemoryMeter(self._device)
        self._checks: TrialChecks | None = None

    def run(self) -> TrialResult:
        """Carry the trial out and write its result. Raises StoppedError where it was asked to stop.

        A trial that was trained before it died is not trained again: `trained.json` says so.
        """
        with self._phase("load"):
            tokenizer = load_tokenizer(self._resolved.tokenizer_path, self._resolved.tokenizer_revision)
        trained = None
        if self._arm.trains:
            if self._folder.trained.is_file():
                trained = Trained.read(self._folder.trained)
            else:
                trained = self._train(tokenizer)
                gc.collect()
            if self._stop.asked:  # in the last steps: what is trained is saved
                raise StoppedError
        result = self._evaluate(tokenizer, trained)
        result.write(self._folder.result)
        shutil.rmtree(self._folder.checkpoints, ignore_errors=True)
        shutil.rmtree(self._folder.start, ignore_errors=True)
        return result

    def _phase(self, name: str) -> Any:
        self._report.phase(name)
        return self._clock.phase(name)

    def _train(self, tokenizer: PreTrainedTokenizerBase) -> Trained:
        """Train, save, and check what was saved. Returns what was measured, once it is written."""
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
                lambda done, loss, rate: self._after_update(done, steps.count, loss, rate),
                lambda: self._stop.asked,
            )
        if outcome.stopped:
            raise StoppedError
        held = self._meter.end_phase().process_peak
        memory = self._step_memory().model_copy(update={"process_peak": held})
        loss = self._finish(training)
        with self._phase("save"):
            save_whole(ready.model, tokenizer, self._folder.model, ready.start)
        taken = steps.taken()
        del ready
        training.release()
        gc.collect()
        checks = self._check_saved(loss)
        trained = Trained(
            parameters=parameters,
            engine=f"{self._engine_name}: {self._resolved.engines[self._trial.arm].reason}",
            seconds=self._train_seconds(outcome),
            memory=memory,
            steps=steps.count,
            examples=len(taken),
            target_tokens=steps.target_tokens(taken),
            final_loss=outcome.final_loss,
            resumed_from_step=outcome.resumed_from_step,
            checkpoints_rejected=outcome.checkpoints_rejected,
            checks=checks,
        )
        trained.write(self._folder.trained)
        self._clock.seconds.clear()
        return trained

    def _train_seconds(self, outcome: Outcome) -> dict[str, float]:
        """Seconds by phase so far, with those of the attempts before a resume."""
        seconds = dict(self._clock.seconds)
        seconds["train"] += outcome.seconds_before
        if outcome.resumed_from_step:
            seconds["redone"] = outcome.redone_seconds
        return seconds

    def _before_training(self, training: Training, resumed: bool) -> None:
        """Measure a step's memory while the allocator is tidy, check the first step, then let the training run."""
        if not resumed:
            with self._phase("measure"):
                probe_step(training, self._meter).write(self._folder.step_memory)
        allocator.quick()
        with self._phase("check"):
            self._checks = checks = TrialChecks(training)
            if resumed and self._folder.checks.is_file():  # of the attempt that this one goes on from
                checks.record = Checks.read(self._folder.checks)
            if checks.record.loss is None:
                checks.first_step()
            if checks.record.moved is None:
                checks.watch()
            checks.record.write(self._folder.checks)
        self._report.phase("train")
        self._meter.start_phase()

    def _after_update(self, done: int, count: int, loss: float, learning_rate: float) -> None:
        self._report.progress(done, count, loss)
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
            loss = self._checks.trained_loss()
            training.join_weights()
            self._checks.note_trained()
        return loss

    def _check_saved(self, trained_loss: float) -> Checks:
        """Load what was saved, in the precision of the training, and compare its loss with the trained model's."""
        assert self._checks is not None
        with self._phase("check"):
            engine_class = ENGINES[self._engine_name]
            computed = self._precision.dtype
            dtype = computed if engine_class.computes_in_weights_dtype else held_dtype(self._arm.method, computed)
            model = load_arm(self._resolved, self._arm.method, self._folder.model, dtype).to(self._device)
            bf16 = self._precision.name == "bf16"
            self._checks.reloaded(trained_loss, engine_for(self._engine_name, model, bf16=bf16))
        return self._checks.record

    def _step_memory(self) -> PhaseMemory:
        if self._folder.step_memory.is_file():
            return PhaseMemory.read(self._folder.step_memory)
        reason = f"{self._folder.step_memory.name} of the attempt that this one resumed is gone"
        return PhaseMemory(peak=None, process_peak=None, not_measured=reason)

    def _evaluate(self, tokenizer: PreTrainedTokenizerBase, trained: Trained | None) -> TrialResult:
        """Load what was saved, as a user would, generate for every test dialogue and score."""
        evaluation, resolved = self._recipe.evaluation, self._resolved
        with self._phase("tokenise"):
            test = load_tokens(resolved.tokens[evaluation.split])
        with self._phase("load"):
            model = load_arm(resolved, self._arm.method, self._folder.model, self._precision.dtype)
            model.to(self._device)
            parameters = trained.parameters if trained else Parameters(trainable=0, total=count_parameters(model).total)
            model = merged_for_generation(model, self._engine_name)
            engine = engine_for(self._engine_name, model, bf16=self._precision.name == "bf16")
        allocator.quick()
        self._meter.start_phase()
        with self._phase("evaluate"):
            outputs = generate(
                engine,
                tokenizer,
                test["input_ids"],
                max_new_tokens=evaluation.max_new_tokens,
                num_beams=evaluation.num_beams,
                batch_size=evaluation.batch_size,
                report=self._report.progress,
            )
            memory = self._meter.end_phase()
            rows = test.remove_columns("input_ids")
            predictions = [
                Prediction(**row, prediction=o.text, truncated=o.truncated, **rouge(o.text, row["references"]))
                for row, o in zip(rows, outputs, strict=True)
            ]
        write_lines(self._folder.predictions, (p.model_dump() for p in predictions))
        return self._result(predictions, parameters, memory, trained)

    def _result(
        self, predictions: list[Prediction], parameters: Parameters, memory: PhaseMemory, trained: Trained | None
    ) -> TrialResult:
        seconds = dict(trained.seconds) if trained else {}
        for name, value in self._clock.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        for name in ("load", "tokenise", "train", "evaluate", "save"):
            seconds.setdefault(name, 0.0)
        return TrialResult(
            arm=self._trial.arm,
            seed=self._trial.seed,
            status="done",
            method=self._arm.method,
            settings={**self._arm.settings, "learning_rate": self._resolved.learning_rates[self._trial.arm]},
            engine=self._engine_name,
            checks=trained.checks if trained else None,
            parameters=parameters,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            memory=Memory(train=trained.memory if trained else None, evaluate=memory),
            training=trained,
            scores=summarise(predictions),
            signature=self._signature(predictions),
            precision=f"{self._precision.name}: {self._precision.reason}",
            data=self._resolved.data,
            environment=describe_environment(self._device),
        )

    def _signature(self, predictions: list[Prediction]) -> str:
        evaluation = self._recipe.evaluation
        counts = sorted({len(p.references) for p in predictions})
        references = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        return signature(
            {
                "metric": "rouge_score",
                "version": rouge_version(),
                "stem": "porter",
                "refs": f"mean-of-{references}",
                "n": len(predictions),
                "split": evaluation.split,
                "data": self._resolved.data[evaluation.split].content_sha256[:12],
                "search": "greedy" if evaluation.num_beams == 1 else f"beam{evaluation.num_beams}",
                "max_new_tokens": evaluation.max_new_tokens,
                "precision": self._precision.name,
                "seed": self._trial.seed,
            }
        )
