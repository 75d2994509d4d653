"""The batches that a run works on, as far as a plan needs them: the longest, the usual, and how steps are split."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tuneoff.data.order import epoch_order, micro_batches, padded, token_budget
from tuneoff.train.steps import Steps, row_lengths

Micros = list[list[int]]  # the examples of each micro-batch
Lengths = list[tuple[int, int]]  # (input, target) tokens of each example


class Batches:
    """Training and validation examples as batches, by the micro-batch: how many of the longest examples go at once."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    @cached_property
    def order(self) -> Micros:
        """The examples of each optimizer step of the first epoch, as far as it is trained.

        The longest comes first, then they go from short to long.
        """
        steps = self._steps
        order = epoch_order(steps.lengths, steps.examples_per_step, steps.seed, 0)
        size = steps.examples_per_step
        first, *others = [order[start : start + size] for start in range(0, len(order), size)][: max(1, steps.count)]
        return [first, *sorted(others, key=lambda step: self.features(step)[0])]

    @property
    def typical(self) -> list[int]:
        """The step of median length."""
        return self.order[len(self.order) // 2]

    @property
    def repeats(self) -> bool:
        """Whether the longest step is trained on more than once."""
        return self._steps.count > len(self.order)

    def micros(self, step: list[int], size: int) -> Micros:
        """A step's micro-batches where `size` of the longest examples go at once: split as the training does."""
        if size >= self._steps.examples_per_step:
            return [step]
        lengths = self._steps.lengths
        return [[step[i] for i in part] for part in micro_batches([lengths[i] for i in step], size * self._budget)]

    def most_targets(self, size: int) -> Micros:
        """The micro-batch whose padded targets are most, which an encoder-decoder's logits follow, and one beside it.

        Micro-batches of one step share a budget of tokens: those of short inputs have more texts, and more targets.
        """
        found = max((self.micros(step, size) for step in self.order), key=lambda micros: max(map(self.targets, micros)))
        first = max(found, key=self.targets)
        return [first, *(micro for micro in found if micro is not first)][:2]

    def targets(self, examples: list[int]) -> int:
        """The padded target tokens of a batch."""
        return int(self.features(examples)[2])

    def tokens(self, examples: list[int]) -> int:
        """The padded input tokens of a batch."""
        return int(self.features(examples)[0])

    def checked(self, size: int, *, checkpointing: bool) -> list[int]:
        """The examples that a trial checks itself on before its first step: as train.checks chooses them."""
        lengths = self._steps.lengths
        first = sorted(self.order[0], key=lambda i: sum(lengths[i]))
        pairs = [] if checkpointing else [[first[-1], first[0]], [first[0], first[1 % len(first)]]]
        return next((p for p in pairs if p[0] != p[1] and len(self.micros(p, size)) == 1), first[:1])

    def validation(self, size: int) -> Micros:
        """The batches of the validation split that can take most memory: most input tokens, pairs of them, or targets.

        Empty where nothing is validated.
        """
        if self._steps.validation is None:
            return []
        lengths = self._validation_lengths
        order = sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True)
        at_once = min(size, self._steps.examples_per_step)
        budget = at_once * self._budget
        parts = [[order[i] for i in part] for part in micro_batches([lengths[i] for i in order], budget)]
        features = [_features([lengths[i] for i in part]) for part in parts]
        places = {max(range(len(parts)), key=lambda n: features[n][kind]) for kind in (0, 1, 2)}
        return [parts[place] for place in sorted(places)]

    def features(self, examples: list[int]) -> np.ndarray:
        """What the work of a micro-batch is a sum of.

        Padded input tokens, their pairs, padded target tokens, their pairs, pairs of both, the targets' rows, and 1.
        """
        return _features([self._steps.lengths[i] for i in examples])

    @cached_property
    def _validation_lengths(self) -> Lengths:
        assert self._steps.validation is not None
        return row_lengths(self._steps.validation)

    @cached_property
    def _budget(self) -> int:
        """Of a micro-batch of one, in tokens: it grows with the size."""
        return token_budget(self._steps.lengths, 1)


def _features(lengths: Lengths) -> np.ndarray:
    s, t = (padded(max(values)) for values in zip(*lengths, strict=True))
    b, rows = len(lengths), sum(target for _, target in lengths)
    return np.array([b * s, b * s * s, b * t, b * t * t, b * s * t, rows, 1.0])
