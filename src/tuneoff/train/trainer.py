"""transformers' Trainer with three things of our own: the shared order, the token loss, sealed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer

from tuneoff.data.order import epoch_order, micro_batches, padded
from tuneoff.data.tokens import IGNORED
from tuneoff.measure.clock import Clock
from tuneoff.model.base import ModelClass
from tuneoff.model.fast.t5 import FastT5
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.checkpoints import seal
from tuneoff.train.loss import summed_cross_entropy, token_loss


class NotANumberError(ArithmeticError):
    """The loss or its gradient is not finite; nothing was updated with it."""


class StepSampler(Sampler[int]):
    """The shared order, epoch by epoch."""

    def __init__(self, lengths: Sequence[tuple[int, int]], examples_per_step: int, seed: int) -> None:
        self._lengths = lengths
        self._examples_per_step = examples_per_step
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self._lengths, self._examples_per_step, self._seed, self._epoch))

    def __len__(self) -> int:
        return len(self._lengths)


class ArmTrainer(Trainer):
    """The one loop: a method changes the model, never this."""

    def __init__(
        self,
        *,
        sampler: StepSampler,
        model_class: ModelClass,
        fast: FastT5 | None,
        budget: int | None,
        clock: Clock,
        **arguments: Any,
    ) -> None:
        super().__init__(compute_loss_func=token_loss(model_class), **arguments)
        self._fast = fast
        self._budget = budget
        self.model_accepts_loss_kwargs = False  # the loss is ours: the model need not know the step's tokens
        self._sampler = sampler
        self._model_class = model_class
        self._clock = clock
        self.train_seconds_before = 0.0

    def train_seconds(self) -> float:
        """Useful seconds of training up to now, those before a resume included."""
        return self.train_seconds_before + self._clock.read("train")

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        return self._sampler

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Forward and backward of a step's examples, in micro-batches within the budget; the sum of their losses."""
        parts = [inputs] if self._budget is None else split_step(inputs, self._budget)
        losses = [super(ArmTrainer, self).training_step(model, part, num_items_in_batch) for part in parts]
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if self._fast is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        count = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum()
        return self._fast.loss(inputs["input_ids"], inputs["attention_mask"], labels) / count

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        optimizer = self.optimizer.optimizer  # without accelerate's wrapper
        if isinstance(optimizer, ExactAdamW):
            norm = torch.tensor(optimizer.gradient_norm())
            optimizer.gradient_scale = min(1.0, self.args.max_grad_norm / (float(norm) + 1e-6))
        else:
            norm = super()._clip_grad_norm(model)
        if not torch.isfinite(norm):
            raise NotANumberError(
                f"the gradient's norm is {float(norm)} at step {self.state.global_step + 1}; "
                "a lower learning rate, or training.precision: fp32, may help"
            )
        return norm

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        seconds = self.train_seconds()
        with self._clock.phase("save"):
            super()._save_checkpoint(model, trial)
            step = self.state.global_step
            seal(Path(self.args.output_dir) / f"checkpoint-{step}", step, seconds)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss on the validation split, in nats a target token. Trainer's own averages batches instead."""
        with self._clock.phase("validate"), torch.no_grad():
            self.model.eval()
            total, count = 0.0, 0
            for inputs in self.get_eval_dataloader():
                batch = self._prepare_inputs(inputs)
                labels = batch.pop("labels")
                if self._fast is None:
                    loss = summed_cross_entropy(self.model_wrapped(**batch).logits, labels, self._model_class)
                else:
                    loss = self._fast.loss(batch["input_ids"], batch["attention_mask"], labels)
                total += float(loss)
                count += int((labels != IGNORED).sum())
            self.model.train()
        metrics = {"eval_loss": total / count}
        self.log(metrics)
        return metrics


def split_step(inputs: dict[str, torch.Tensor], budget: int) -> list[dict[str, torch.Tensor]]:
    """A collated step as micro-batches of at most `budget` padded tokens, each without the padding it does not need."""
    mask, labels = inputs["attention_mask"], inputs["labels"]
    one_sequence = labels.shape == mask.shape  # of a decoder-only model, whose labels lie under its input
    left = bool((mask[:, 0] == 0).any())
    sources, targets = mask.sum(1).tolist(), (labels != IGNORED).sum(1).tolist()
    lengths = list(zip(sources, targets, strict=True))
    parts = []
    for chosen in micro_batches(lengths, budget):
        source = padded(max(sources[i] for i in chosen))
        target = source if one_sequence else padded(max(targets[i] for i in chosen))
        parts.append(
            {
                name: value[chosen][:, -width:] if left else value[chosen][:, :width]
                for name, value, width in (
                    *((name, value, source) for name, value in inputs.items() if name != "labels"),
                    ("labels", labels, target),
                )
            }
        )
    return parts
