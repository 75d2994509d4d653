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
from tuneoff.model.device import pick_device, pick_precision, synchronize
from tuneoff.model.engine import pick_engine
from tuneoff.model.methods import uses_peft
from tuneoff.model.saved import load_arm, save_whole
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Recipe, Trial
from tuneoff.records import (
    Memory,
    Parameters,
    PhaseMemory,
    Prediction,
    Prepared,
    Trained,
    TrialResult,
)
from tuneoff.runner.beginning import begin, load_work
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.score.rouge import rouge, rouge_version
from tuneoff.score.summary import summarise
from tuneoff.signature import signature
from tuneoff.train.loop import count_steps
from tuneoff.train.probe import probe_step
from tuneoff.train.trainer import ArmTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TrialRun:
    """One trial in this process. Made before the model is loaded, since memory is measured from there."""

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        trial: Trial,
        folder: TrialFolder,
        report: Reporter,
        stop: Stop,
        learning_rate: float,
    ) -> None:
        self._recipe, self._prepared, self._trial, self._folder = recipe, prepared, trial, folder
        self._learning_rate = learning_rate
        self._report, self._stop = report, stop
        self._arm = recipe.arms[trial.arm]
        self._device = pick_device()
        self._precision = pick_precision(recipe.training.precision, self._device)
        self._clock = Clock(lambda: synchronize(self._device))
        allocator.tidy()
        self._meter = MemoryMeter(self._device)

    def run(self) -> TrialResult:
        """Carry the trial out and write its result. Raises StoppedError where it was asked to stop.

        A trial that was trained before it died is not trained again: `trained.json` says so.
        """
        with self._phase("load"):
            tokenizer = load_tokenizer(self._prepared.tokenizer_path, self._prepared.tokenizer_revision)
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
        return result

    def _phase(self, name: str) -> Any:
        self._report.phase(name)
        return self._clock.phase(name)

    def _train(self, tokenizer: PreTrainedTokenizerBase) -> Trained:
        recipe, prepared = self._recipe, self._prepared
        with self._phase("tokenise"):
            steps = count_steps(len(load_tokens(prepared.tokens["train"])), recipe.training)
            work = load_work(recipe, prepared, self._trial.seed, steps)
        self._report.phase("load")
        begun = begin(
            recipe,
            prepared,
            self._trial,
            work,
            self._learning_rate,
            tokenizer=tokenizer,
            precision=self._precision,
            folder=self._folder,
            clock=self._clock,
        )
        training, engine = begun.training, begun.engine
        self._report.phase("train")
        with self._stop.kept_for_safe_points():
            outcome = training.run(self._before_training, self._report.progress, lambda: self._stop.asked)
        if outcome.stopped:
            raise StoppedError
        held = self._meter.end_phase().process_peak
        memory = self._step_memory().model_copy(update={"process_peak": held})
        with self._phase("save"):
            save_whole(begun.model, tokenizer, self._folder.model)
        taken = work.taken()
        seconds = dict(self._clock.seconds)
        seconds["train"] += outcome.seconds_before
        if outcome.resumed_from_step:
            seconds["redone"] = outcome.redone_seconds
        trained = Trained(
            parameters=begun.parameters,
            engine=f"{engine.name}: {engine.reason}",
            seconds=seconds,
            memory=memory,
            steps=steps,
            examples=len(taken),
            target_tokens=sum(work.lengths[i][1] for i in taken),
            final_loss=outcome.final_loss,
            resumed_from_step=outcome.resumed_from_step,
            checkpoints_rejected=outcome.checkpoints_rejected,
        )
        trained.write(self._folder.trained)
        self._clock.seconds.clear()
        training.release()
        return trained

    def _before_training(self, trainer: ArmTrainer, resumed: bool) -> None:
        """Measure a step's memory while the allocator is tidy, then let the training run quick."""
        if not resumed:
            with self._phase("measure"):
                probe_step(trainer, self._meter).write(self._folder.step_memory)
            self._report.phase("train")
        allocator.quick()
        self._meter.start_phase()

    def _step_memory(self) -> PhaseMemory:
        if self._folder.step_memory.is_file():
            return PhaseMemory.read(self._folder.step_memory)
        reason = f"{self._folder.step_memory.name} of the attempt that this one resumed is gone"
        return PhaseMemory(peak=None, process_peak=None, not_measured=reason)

    def _evaluate(self, tokenizer: PreTrainedTokenizerBase, trained: Trained | None) -> TrialResult:
        """Load what was saved, as a user would, generate for every test dialogue and score."""
        evaluation, prepared = self._recipe.evaluation, self._prepared
        with self._phase("tokenise"):
            test = load_tokens(prepared.tokens[evaluation.split])
        with self._phase("load"):
            model = load_arm(prepared, self._arm.method, self._folder.model, self._precision.dtype)
            model.to(self._device)
            engine = pick_engine(self._recipe.training, model).name
            if engine == "fast" and uses_peft(self._arm.method):
                model = model.merge_and_unload()
            parameters = trained.parameters if trained else Parameters(trainable=0, total=count_parameters(model).total)
        allocator.quick()
        self._meter.start_phase()
        with self._phase("evaluate"):
            outputs = generate(
                model,
                tokenizer,
                test["input_ids"],
                model_class=prepared.model_class,
                max_new_tokens=evaluation.max_new_tokens,
                num_beams=evaluation.num_beams,
                batch_size=evaluation.batch_size,
                engine=engine,
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
            settings={**self._arm.settings, "learning_rate": self._learning_rate if self._arm.trains else None},
            parameters=parameters,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            memory=Memory(train=trained.memory if trained else None, evaluate=memory),
            training=trained,
            scores=summarise(predictions),
            signature=self._signature(predictions),
            precision=f"{self._precision.name}: {self._precision.reason}",
            data=self._prepared.data,
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
                "data": self._prepared.data[evaluation.split].content_sha256[:12],
                "search": "greedy" if evaluation.num_beams == 1 else f"beam{evaluation.num_beams}",
                "max_new_tokens": evaluation.max_new_tokens,
                "precision": self._precision.name,
                "seed": self._trial.seed,
            }
        )
