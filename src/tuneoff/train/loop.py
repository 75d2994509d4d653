"""One arm's training from adapted model to trained model, and what it measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import AutocastKwargs
from transformers import DataCollatorForSeq2Seq, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from tuneoff.data.order import PADDING, epoch_order, token_budget
from tuneoff.data.tokens import IGNORED
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.base import model_class
from tuneoff.model.engine import Engine
from tuneoff.model.fast.t5 import FastT5
from tuneoff.records import read_history
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.callbacks import Begin, History, MethodStep, Progress, Stops
from tuneoff.train.checkpoints import newest_whole
from tuneoff.train.trainer import ArmTrainer, StepSampler

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tuneoff.recipe.schema import TrainingSpec

LOGS = 100  # lines of history in a run, about


@dataclass(frozen=True)
class Work:
    """What is trained on: the same for every arm of a seed."""

    train: Dataset
    validation: Dataset | None
    seed: int
    examples_per_step: int
    steps: int

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """(input, target) tokens of each example; of the target, those that the loss sees."""
        rows = self.train.with_format("numpy")
        return [(len(row["input_ids"]), int((row["labels"] != IGNORED).sum())) for row in rows]

    def taken(self) -> list[int]:
        """The indices of all examples trained on, in order."""
        lengths, per_epoch = self.lengths, -(-len(self.train) // self.examples_per_step)
        taken: list[int] = []
        for epoch in range(-(-self.steps // per_epoch)):
            order = epoch_order(lengths, self.examples_per_step, self.seed, epoch)
            taken.extend(order[: (self.steps - epoch * per_epoch) * self.examples_per_step])
        return taken


@dataclass(frozen=True)
class Outcome:
    """What a training left besides the trained model."""

    stopped: bool
    final_loss: float | None
    resumed_from_step: int | None
    seconds_before: float
    redone_seconds: float
    checkpoints_rejected: list[str]


class Training:
    """The training of one model."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        work: Work,
        spec: TrainingSpec,
        *,
        learning_rate: float,
        bf16: bool,
        engine: Engine,
        folder: TrialFolder,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._spec = spec
        at_once = min(spec.micro_batch or spec.examples_per_step, spec.examples_per_step)
        arguments = TrainingArguments(
            output_dir=str(folder.checkpoints),
            run_name=folder.name,
            seed=work.seed,
            max_steps=work.steps,
            learning_rate=learning_rate,
            per_device_train_batch_size=spec.examples_per_step,  # a whole step, which the trainer splits
            per_device_eval_batch_size=4 * at_once,
            activation_checkpointing=spec.activation_checkpointing,
            bf16=bf16 and engine == "plain",  # autocast; the fast path's weights are bf16 themselves
            lr_scheduler_type=spec.lr_scheduler_type,
            warmup_steps=round(spec.warmup_ratio * work.steps),
            weight_decay=spec.weight_decay,
            max_grad_norm=spec.max_grad_norm,
            logging_steps=max(1, work.steps // LOGS),
            logging_nan_inf_filter=False,
            save_strategy="no",  # by the clock instead: callbacks.Stops
            save_total_limit=2,
            eval_strategy="epoch" if work.validation is not None else "no",
            report_to=spec.report_to,
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._exact = engine == "fast" and bf16 and base is model
        own = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": spec.weight_decay}
        self._trainer = ArmTrainer(
            sampler=StepSampler(work.lengths, work.examples_per_step, work.seed),
            model_class=model_class(base.config),
            fast=FastT5(model) if engine == "fast" else None,
            budget=token_budget(work.lengths, at_once) if at_once < spec.examples_per_step else None,
            clock=clock,
            model=model,
            optimizer_cls_and_kwargs=(ExactAdamW, own) if self._exact else None,
            args=arguments,
            train_dataset=work.train,
            eval_dataset=work.validation,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=base, pad_to_multiple_of=PADDING),
            callbacks=[MethodStep()],
        )
        self._trainer.remove_callback(PrinterCallback)
        if spec.activation_checkpointing:
            # Else autocast keeps a bf16 copy of every weight until the forward pass is over: all that was to be saved.
            self._trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)

    def run(
        self,
        before: Callable[[ArmTrainer, bool], None],
        report: Callable[[int, int, float | None], None],
        stop_asked: Callable[[], bool],
    ) -> Outcome:
        """Train, from the newest whole checkpoint where there is one. Raises NotANumberError.

        `before` is called when model and optimizer are ready, and told whether training goes on from a checkpoint.
        """
        checkpoint, rejected = newest_whole(self._folder.checkpoints)
        resumed = checkpoint.manifest.step if checkpoint else 0
        seconds_before = checkpoint.manifest.train_seconds if checkpoint else 0.0
        history = self._folder.history
        seen = [line["train_seconds"] for line in read_history(history)]
        self._trainer.train_seconds_before = seconds_before
        for callback in (
            Begin(lambda: before(self._trainer, checkpoint is not None)),
            History(history, self._trainer.train_seconds, resumed),
            Progress(report),
            Stops(self._spec.checkpoint_minutes, stop_asked),
        ):
            self._trainer.add_callback(callback)
        with self._clock.phase("train"):
            self._trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        if self._exact:
            self._trainer.optimizer.optimizer.join()
        losses = [line["loss"] for line in read_history(history) if "loss" in line]
        return Outcome(
            stopped=stop_asked() and self._trainer.state.global_step < self._trainer.state.max_steps,
            final_loss=losses[-1] if losses else None,
            resumed_from_step=resumed or None,
            seconds_before=seconds_before,
            redone_seconds=max(0.0, max(seen, default=0.0) - seconds_before),
            checkpoints_rejected=rejected,
        )

    def unstarted(self) -> ArmTrainer:
        """The trainer with its model and optimizer as `run` sets them up, for single steps (train.probe)."""
        trainer = self._trainer
        if self._spec.activation_checkpointing:
            trainer.model.activation_checkpointing_enable()
        trainer.create_optimizer()
        trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model, device_placement=False)
        return trainer

    def release(self) -> None:
        """Give back the memory of model and optimizer."""
        trainer = self._trainer
        trainer.accelerator.free_memory()
        trainer.optimizer = trainer.lr_scheduler = trainer.model = trainer.model_wrapped = None


def count_steps(examples: int, spec: TrainingSpec) -> int:
    """Optimizer steps that a recipe asks for: `max_steps`, else its epochs (an incomplete step counts)."""
    per_epoch = -(-examples // spec.examples_per_step)
    return spec.max_steps or max(1, round(spec.epochs * per_epoch))
