"""The process of a trial that evaluates: load what was saved → generate → score. It has done nothing else before."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping

from tuneoff.data.contents import require_saved
from tuneoff.data.tokens import Tokenization, load_tokens
from tuneoff.decode.generate import generate
from tuneoff.decode.likelihood import reference_losses
from tuneoff.decode.search import left_off, searched_by
from tuneoff.folder import TrialFolder, write_lines
from tuneoff.measure import allocator
from tuneoff.measure.environment import describe_environment
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.engines import engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.model.saved import load_arm
from tuneoff.recipe import Trial
from tuneoff.records import Memory, Parameters, PhaseMemory, Prediction, Resolved, Trained, TrialResult
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop
from tuneoff.runner.trial import TrialProcess
from tuneoff.score.metrics import Loss, Scorer, find_metrics, metrics_signature
from tuneoff.score.summary import scored, summarise
from tuneoff.signature import signature


class TrialEvaluation(TrialProcess):
    """Loads an arm as a user would, generates for every example of the test split and scores."""

    def __init__(self, resolved: Resolved, trial: Trial, folder: TrialFolder, report: Reporter, stop: Stop) -> None:
        super().__init__(resolved, trial, folder, report, stop)
        self._times = self._part_times(folder.batch_times)
        self._metrics = find_metrics(self._recipe.evaluation.metrics, self._recipe.evaluation.modules)
        self._left_off: list[str] = []

    def run(self) -> TrialResult:
        """Evaluate what `trained.json` says was trained, or the original model, and write the trial's result."""
        evaluation, resolved = self._recipe.evaluation, self._resolved
        trained = None
        if self._arm.trains:
            trained = Trained.read(self._folder.trained)
            resolved.origin.require_own(trained.origin, self._folder.trained)
            require_saved(self._folder.model, trained)
        with self._phase("load"):
            tokenizer = self._tokenizer()
            model = load_arm(resolved, self._arm.method, self._folder.model, self._precision.dtype)
            model.to(self._device)
            parameters = trained.parameters if trained else Parameters(trainable=0, total=count_parameters(model).total)
            model = merged_for_generation(model, self._engine_name)
            engine = engine_for(self._engine_name, model, bf16=self._precision.name == "bf16")
        with self._phase("tokenise"):
            test = load_tokens(resolved.tokens[evaluation.split])
        self._left_off = left_off(model.generation_config, evaluation.search)
        allocator.quick()
        self._times.begin(0)
        self._meter.start_phase()
        with self._phase("evaluate"):
            outputs = generate(
                engine,
                tokenizer,
                test["input_ids"],
                max_new_tokens=evaluation.max_new_tokens,
                search=evaluation.search,
                batch_size=evaluation.batch_size,
                report=self._report.progress,
                batches_ended=self._timed_batches(),
                chat=resolved.chat,
            )
        memory = self._meter.end_phase()
        self._times.flush()
        with self._phase("score"):
            rows = test.remove_columns("input_ids")
            written = [
                Prediction(**row, prediction=o.text, truncated=o.truncated, scores={})
                for row, o in zip(rows, outputs, strict=True)
            ]
            scorers = {m.name: m.prepare([p.references for p in written]) for m in self._metrics}
            losses: list[list[Loss]] | list[None] = [None] * len(written)
            if any(scorer.judge is not None for scorer in scorers.values()):
                tokenization = Tokenization.of(self._recipe, tokenizer, resolved.model_class, resolved.chat)
                inputs, references = test["input_ids"], [p.references for p in written]
                losses = reference_losses(
                    engine, tokenization, inputs, references, evaluation.batch_size, self._report.progress
                )
            predictions = [scored(one, scorers, own) for one, own in zip(written, losses, strict=True)]
        write_lines(self._folder.predictions, (p.model_dump() for p in predictions))
        result = self._result(predictions, scorers, parameters, memory, trained)
        result.write(self._folder.result)
        shutil.rmtree(self._folder.checkpoints, ignore_errors=True)
        shutil.rmtree(self._folder.start, ignore_errors=True)
        return result

    def _timed_batches(self) -> Callable[[int], None]:
        """What `generate` tells when batches are done: the seconds since are noted under the last one's number."""
        before = self._clock.read("evaluate")

        def note(done: int) -> None:
            nonlocal before
            now = self._clock.read("evaluate")
            self._times.note(done, now - before)
            before = now

        return note

    def _result(
        self,
        predictions: list[Prediction],
        scorers: Mapping[str, Scorer],
        parameters: Parameters,
        memory: PhaseMemory,
        trained: Trained | None,
    ) -> TrialResult:
        seconds = dict(trained.seconds) if trained else {}
        for name, value in self._clock.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        for name in ("load", "tokenise", "train", "evaluate", "score", "save"):
            seconds.setdefault(name, 0.0)
        peaks = [self._meter.process_peak(), trained.process_peak if trained else None]
        return TrialResult(
            origin=self._resolved.origin,
            arm=self._trial.arm,
            seed=self._trial.seed,
            status="done",
            method=self._arm.method,
            settings={**self._arm.settings, "learning_rate": self._resolved.learning_rates[self._trial.arm]},
            engine=self._engine_name,
            checks=trained.checks if trained else None,
            parameters=parameters,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            load={**self._clock.loads(), **(trained.load if trained else {})},
            memory=Memory(
                train=trained.memory if trained else None,
                training=trained.memory_whole if trained else None,
                evaluate=memory,
                process_peak=max((peak for peak in peaks if peak is not None), default=None),
            ),
            training=trained,
            scores=summarise(predictions, self._metrics),
            signature=self._signature(predictions, scorers),
            precision=f"{self._precision.name}: {self._precision.reason}",
            data=self._resolved.data,
            environment=describe_environment(self._device),
        )

    def _signature(self, predictions: list[Prediction], scorers: Mapping[str, Scorer]) -> str:
        evaluation = self._recipe.evaluation
        counts = sorted({len(p.references) for p in predictions})
        references = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        return signature(
            {
                **metrics_signature(scorers.values()),
                **self._loss_signature(scorers),
                "refs": f"{self._metrics[0].several}-of-{references}",
                "n": len(predictions),
                "split": evaluation.split,
                "data": self._resolved.data[evaluation.split].content_sha256[:12],
                **self._search_signature(),
                "search": searched_by(evaluation.search),
                "max_new_tokens": evaluation.max_new_tokens,
                "precision": self._precision.name,
                "seed": self._trial.seed,
            }
        )

    def _loss_signature(self, scorers: Mapping[str, Scorer]) -> dict[str, str]:
        """What else figures of losses hang on: the tokenizer, and where references are cut."""
        resolved = self._resolved
        tokenizer = resolved.tokenizer_sha256 or resolved.tokenizer_revision or resolved.tokenizer_path
        more = f"cut{self._recipe.data.max_target_length}+tok{tokenizer[:8]}"
        judged = [scorer for scorer in scorers.values() if scorer.judge is not None]
        return {name: f"{value}+{more}" for scorer in judged for name, value in scorer.signature.items()}

    def _search_signature(self) -> dict[str, str]:
        """Which chat template the model was asked by, and what its own config asks for and was left off."""
        chat, fields = self._resolved.chat, {}
        if chat is not None:
            unused = {"takes_system"} if self._recipe.prompt is not None else set()
            fields["chat"] = hashlib.sha256(chat.model_dump_json(exclude=unused).encode()).hexdigest()[:8]
        if self._left_off:
            fields["left_off"] = "+".join(setting.replace(" ", "=") for setting in self._left_off)
        return fields
