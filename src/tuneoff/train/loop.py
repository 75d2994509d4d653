"""The training loop: one for every arm. A method changes the model, and never this.

`Training.run` reads top to bottom: for each step of the shared order, the loss and gradient of each micro-batch, then
clipping, the optimizer, the learning rate's schedule, history, validation, checkpoint and stop.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from transformers import get_scheduler

from tuneoff.data.batches import collator_for
from tuneoff.data.order import micro_batches, token_budget
from tuneoff.data.tokens import IGNORED
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.base import model_class
from tuneoff.model.engines import Engine
from tuneoff.model.methods import after_optimizer_step, method_loss
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.best import BestWeights, Validation, best_of, since_best
from tuneoff.train.checkpoints import Checkpoint, Position, load, newest_whole, save
from tuneoff.train.history import History
from tuneoff.train.optimizer import clip, make_optimizer, sum_over_processes
from tuneoff.train.steps import Steps, row_lengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tuneoff.recipe.training import TrainingSpec
    from tuneoff.records import RunMark

Batch = dict[str, torch.Tensor]


class NotANumberError(ArithmeticError):
    """The loss or its gradient is not finite. Nothing was updated with it."""


@dataclass(frozen=True)
class Outcome:
    """What a training left besides the trained model.

    Attributes:
        stopped: Whether it was asked to stop, and is to go on.
        steps: The optimizer steps that were done: fewer than planned where it stopped early.
        validations: Every validation, in order.
        kept: The one whose weights the model has; None where it has those of the last step.
        final_loss: The mean training loss at the end, in nats a target token.
        resumed_from_step: The step of the checkpoint that it went on from, if any.
        seconds_before: Seconds of training before that.
        redone_seconds: Seconds of steps that were done again.
        checkpoints_rejected: Checkpoints that were not whole, and why.
    """

    stopped: bool
    steps: int
    validations: list[Validation]
    kept: Validation | None
    final_loss: float | None
    resumed_from_step: int | None
    seconds_before: float
    redone_seconds: float
    checkpoints_rejected: list[str]


class Training:
    """The training of one model, ready to run. Its checkpoints note the run `origin` that they are of.

    Attributes:
        engine: What computes the loss of the model.
        optimizer: Its optimizer.
        steps: The optimizer steps, and which examples each takes.
        collate: Makes a batch of examples.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        steps: Steps,
        spec: TrainingSpec,
        learning_rate: float,
        folder: TrialFolder,
        clock: Clock,
        origin: RunMark | None = None,
    ) -> None:
        self.engine, self.steps, self._origin = engine, steps, origin
        self._model, self._spec, self._folder, self._clock = engine.model, spec, folder, clock
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
            log_with=list(spec.report_to) or None,
            project_config=ProjectConfiguration(project_dir=str(folder.path), logging_dir=str(folder.trackers)),
        )
        self._model.to(self._accelerator.device)
        if spec.activation_checkpointing:
            self._model.activation_checkpointing_enable()
        base = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        self.collate = collator_for(self._model, tokenizer, model_class(base.config))
        at_once = min(spec.micro_batch or steps.examples_per_step, steps.examples_per_step)
        self._budget = token_budget(steps.lengths, at_once)
        self._whole = at_once == steps.examples_per_step
        self.optimizer = make_optimizer(engine, spec, learning_rate, add_up=not self._whole)
        self._scheduler = get_scheduler(
            spec.lr_scheduler_type, self.optimizer, round(spec.warmup_ratio * steps.count), steps.count
        )
        self._history = History(folder.history, steps.count, steps.per_epoch, self._track)
        self._best = BestWeights(folder.checkpoints, origin) if spec.keep == "best" and steps.validation else None
        self._seconds_before = 0.0

    def run(
        self,
        before: Callable[[bool], None],
        after_update: Callable[[int, float, float], None],
        stop_asked: Callable[[], bool],
    ) -> Outcome:
        """Train, from the newest whole checkpoint where there is one.

        Raises NotANumberError, and ForeignResultError where the checkpoint is of another run.

        `before` is called once when all is ready, and told whether training goes on from a checkpoint. `after_update`
        is called after every update, and told how many were made, the step's loss and its learning rate.
        """
        checkpoint, rejected = self._newest_checkpoint()
        first = self._resume(checkpoint) if checkpoint else 0
        main = self._accelerator.is_main_process
        seen = self._history.begin(first) if main else 0.0
        self._accelerator.init_trackers("tuneoff", init_kwargs={"wandb": {"name": self._folder.name}})
        with self._clock.phase("train"):
            before(checkpoint is not None)
            self._model.train()
            saved_at, stopped, done = time.monotonic(), False, first
            for step in range(first, self.steps.count if not self._is_out_of_patience() else first):
                examples = self.steps.examples(step)
                loss = self.backward([self.batch(part) for part in self.split(examples)], self.tokens(examples))
                norm = clip(self.optimizer, self._spec.max_grad_norm)
                if not math.isfinite(norm):
                    raise NotANumberError(
                        f"the gradient's norm is {norm} at step {step + 1}; "
                        "a lower learning rate, or training.precision: fp32, may help"
                    )
                rate = self._scheduler.get_last_lr()[0]
                self.optimizer.step()
                self._scheduler.step()
                after_optimizer_step(self._model, step)
                self.optimizer.zero_grad()

                done = step + 1
                if main:
                    self._history.step(done, loss, rate, norm, self.train_seconds())
                after_update(done, loss, rate)
                stopped = stop_asked() and done < self.steps.count
                ended = self._is_validated(done) and self._validated(done)
                due = time.monotonic() - saved_at >= 60 * self._spec.checkpoint_minutes
                if (due or stop_asked()) and main:
                    self._save(done)
                    saved_at = time.monotonic()
                if stopped or ended:
                    break
            kept = best_of(self._history.validations) if self._best is not None and not stopped else None
            if kept is not None and self._best is not None:
                self._accelerator.wait_for_everyone()
                with self._clock.phase("save"):
                    self._best.restore(kept.step, self._model, self.optimizer)
        self._accelerator.end_training()
        return Outcome(
            stopped=stopped,
            steps=done,
            validations=self._history.validations,
            kept=kept,
            final_loss=self._history.last_loss,
            resumed_from_step=first or None,
            seconds_before=self._seconds_before,
            redone_seconds=max(0.0, seen - self._seconds_before),
            checkpoints_rejected=rejected,
        )

    def _is_validated(self, done: int) -> bool:
        """Whether the loss on the validation split is computed after so many steps."""
        every = self._spec.eval_steps or self.steps.per_epoch
        return self.steps.validation is not None and (done % every == 0 or done == self.steps.count)

    def _validated(self, done: int) -> bool:
        """Compute the validation loss, note it, and keep the weights if they are the best. Returns whether to stop."""
        eval_loss, ends = self.validate(), False
        if self._accelerator.is_main_process:
            self._history.validation(done, eval_loss, self.train_seconds())
            if self._best is not None and best_of(self._history.validations).step == done:
                with self._clock.phase("save"):
                    self._best.keep(done, self._model, self.optimizer)
            ends = self._is_out_of_patience()
        told = self._accelerator.reduce(torch.tensor(float(ends), device=self._accelerator.device), "sum")
        return bool(told > 0)

    def _is_out_of_patience(self) -> bool:
        """Whether so many validations were made since the best one that training stops early."""
        patience, validations = self._spec.early_stopping_patience, self._history.validations
        return patience is not None and bool(validations) and since_best(validations) >= patience

    @property
    def checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self._spec.activation_checkpointing

    def split(self, examples: Sequence[int]) -> list[list[int]]:
        """A step's examples as micro-batches within the token budget: sets of examples, each collated by itself."""
        if self._whole:
            return [list(examples)]
        parts = micro_batches([self.steps.lengths[i] for i in examples], self._budget)
        return [[examples[place] for place in part] for part in parts]

    def batch(self, examples: Sequence[int]) -> Batch:
        """One padded batch of training examples, on the device."""
        return self._on_device(self.collate([self.steps.train[i] for i in examples]))

    def tokens(self, examples: Sequence[int]) -> int:
        """The target tokens of a whole step: what every micro-batch's loss is divided by."""
        return self.steps.target_tokens(list(examples))

    def backward(self, batches: Sequence[Batch], tokens: int) -> float:
        """Add the gradient of a step's micro-batches to the weights. Returns the step's loss in nats a target token.

        Each micro-batch gives its summed loss over the `tokens` of the whole step, so that no split of the step changes
        the gradient. With several processes each takes its share of the micro-batches, and the gradients are summed.
        """
        share = batches[self._accelerator.process_index :: self._accelerator.num_processes]
        losses = []
        for batch in share:
            loss = self.engine.loss(batch) / tokens
            self._accelerator.backward(loss)
            losses.append(loss.detach())
        own = method_loss(self._model)
        if own is not None and self._accelerator.is_main_process:  # a term of the method's own, once a step
            self._accelerator.backward(own)
        if self._accelerator.num_processes > 1:
            sum_over_processes(self.optimizer)
        total = torch.stack(losses).sum() if losses else torch.zeros((), device=self._accelerator.device)
        return float(self._accelerator.reduce(total, "sum"))

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on the validation split in nats a target token, in batches no larger than a micro-batch."""
        assert self.steps.validation is not None
        rows, lengths = self.steps.validation, row_lengths(self.steps.validation)
        order = sorted(range(len(rows)), key=lambda i: lengths[i], reverse=True)
        accelerator = self._accelerator
        with self._clock.phase("validate"):
            self._model.eval()
            sums = torch.zeros(2, dtype=torch.float64)  # loss in nats, target tokens
            parts = micro_batches([lengths[i] for i in order], self._budget)
            for part in parts[accelerator.process_index :: accelerator.num_processes]:
                batch = self._on_device(self.collate([rows[order[place]] for place in part]))
                sums[0] += float(self.engine.loss(batch))
                sums[1] += int((batch["labels"] != IGNORED).sum())
            self._model.train()
            total, count = accelerator.reduce(sums.to(accelerator.device), "sum").tolist()
        return total / count

    def train_seconds(self) -> float:
        """Useful seconds of training up to now, those before a resume included."""
        return self._seconds_before + self._clock.read("train")

    def round_weights(self) -> None:
        """Give the trained weights the values that they have when saved and loaded. Nothing is trained after."""
        if isinstance(self.optimizer, ExactAdamW):
            self.optimizer.round_ties()

    def join_weights(self) -> None:
        """Give the trained weights the fp32 values that the optimizer holds, to be saved. Nothing is trained after."""
        if isinstance(self.optimizer, ExactAdamW):
            self.optimizer.join()

    def release(self) -> None:
        """Give back the memory of model and optimizer."""
        self._accelerator.free_memory()
        del self.engine, self.optimizer, self._model, self._scheduler

    def _newest_checkpoint(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that training can go on from, and why newer ones were rejected. These are deleted."""
        checkpoint, rejected = newest_whole(self._folder.checkpoints, self._origin)
        while checkpoint is not None and self._best is not None:
            step = checkpoint.manifest.step
            due = [done for done in range(1, step + 1) if self._is_validated(done)]
            lacking = self._best.lacks(self._history.validations, due, step)
            if lacking is None:
                break
            told = f"{checkpoint.path.name}: {lacking}"
            shutil.rmtree(checkpoint.path, ignore_errors=True)
            checkpoint, more = newest_whole(self._folder.checkpoints, self._origin)
            rejected = [*rejected, told, *more]
        return checkpoint, rejected

    def _resume(self, checkpoint: Checkpoint) -> int:
        """Take up all that a checkpoint holds. Returns the number of steps done."""
        position = load(checkpoint, self._model, self.optimizer, self._scheduler)
        self._history.window = list(position.window)
        self._seconds_before = checkpoint.manifest.train_seconds
        return checkpoint.manifest.step

    def _save(self, done: int) -> None:
        seconds = self.train_seconds()
        with self._clock.phase("save"):
            position = Position(step=done, train_seconds=seconds, window=self._history.window)
            save(self._folder.checkpoints, position, self._model, self.optimizer, self._scheduler, self._origin)

    def _track(self, values: dict[str, float], step: int) -> None:
        self._accelerator.log(values, step=step)

    def _on_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self._accelerator.device) for name, tensor in batch.items()}
