"""The optimizer steps of a training: which examples each one takes, the same for every arm of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from tuneoff.data.order import epoch_order
from tuneoff.data.tokens import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

    from tuneoff.recipe.training import TrainingSpec


@dataclass(frozen=True)
class Steps:
    """`count` optimizer steps of `examples_per_step` examples of `train`, in the order of `seed`.

    `train` and `validation` have the columns `input_ids` and `labels`.
    """

    train: Dataset
    validation: Dataset | None
    seed: int
    examples_per_step: int
    count: int

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """(input, target) tokens of each training example. Of the target, those that the loss sees."""
        return row_lengths(self.train)

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch. The last one takes what is left."""
        return -(-len(self.lengths) // self.examples_per_step)

    def examples(self, step: int) -> list[int]:
        """The indices of the examples of a step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        start = place * self.examples_per_step
        return self._order(epoch)[start : start + self.examples_per_step]

    def target_tokens(self, examples: list[int]) -> int:
        """How many target tokens the loss of these examples sees."""
        return sum(self.lengths[i][1] for i in examples)

    def tokens(self, examples: list[int], *, causal: bool) -> int:
        """How many tokens of these examples go through the model; a causal one has the target in its `input_ids`."""
        return sum(self.lengths[i][0] + (0 if causal else self.lengths[i][1]) for i in examples)

    def taken(self, done: int | None = None) -> list[int]:
        """The indices of all examples trained on in the first `done` steps, or in all, in order."""
        return [i for step in range(self.count if done is None else done) for i in self.examples(step)]

    @cached_property
    def _orders(self) -> object:
        return lru_cache(maxsize=2)(lambda epoch: epoch_order(self.lengths, self.examples_per_step, self.seed, epoch))

    def _order(self, epoch: int) -> list[int]:
        order: list[int] = self._orders(epoch)  # type: ignore[operator]
        return order


def row_lengths(rows: Dataset) -> list[tuple[int, int]]:
    """(input, target) tokens of each row. Of the target, those that the loss sees."""
    plain = rows.with_format("numpy")
    return [(len(row["input_ids"]), int((row["labels"] != IGNORED).sum())) for row in plain]


def count_steps(examples: int, spec: TrainingSpec) -> int:
    """The optimizer steps that a recipe asks for: `max_steps`, else its epochs, where an incomplete step counts."""
    per_epoch = -(-examples // spec.examples_per_step)
    return spec.max_steps or max(1, round(spec.epochs * per_epoch))
