"""The order of the training examples: random, grouped by length, and the same for every arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PADDING = 8  # batches are padded to a multiple of it
STEPS_PER_POOL = 50  # how many steps' worth of examples are sorted together: more pads less and mixes less


def epoch_order(lengths: Sequence[tuple[int, int]], examples_per_step: int, seed: int, epoch: int) -> list[int]:
    """Indices of one epoch; each run of `examples_per_step` is the work of one optimizer step.

    `lengths` are (input, target) tokens of each example. Pools of random examples are sorted by
    length, so that the examples of a step need little padding; then the steps are shuffled. The
    longest step comes first, so that too little memory shows at once, and an incomplete step last.
    Depends on the arguments alone: not on the arm, the method, or the micro-batch.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    source, target = np.asarray(lengths, dtype=np.int64).reshape(-1, 2).T
    pool = STEPS_PER_POOL * examples_per_step
    steps: list[np.ndarray] = []
    for start in range(0, len(shuffled), pool):
        chosen = shuffled[start : start + pool]
        # Longest input first; inputs within 16 tokens of each other are sorted by their targets.
        chosen = chosen[np.lexsort((-target[chosen], -(source[chosen] // 16)))]
        steps.extend(chosen[i : i + examples_per_step] for i in range(0, len(chosen), examples_per_step))
    incomplete = [step for step in steps if len(step) < examples_per_step]
    complete = [step for step in steps if len(step) == examples_per_step]
    ordered = [complete[i] for i in random.permutation(len(complete))]
    if ordered:
        longest = max(range(len(ordered)), key=lambda i: int((source + target)[ordered[i]].max()))
        ordered.insert(0, ordered.pop(longest))
    return [int(index) for step in (*ordered, *incomplete) for index in step]


def token_budget(lengths: Sequence[tuple[int, int]], micro_batch: int) -> int:
    """The padded tokens of `micro_batch` examples of the longest input and target: what a micro-batch may hold."""
    return micro_batch * sum(max(map(padded, side)) for side in zip(*lengths, strict=True))


def micro_batches(lengths: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """The positions of a step's examples in parts whose padded tokens stay within `budget`, in their order.

    As many as there is room for go together: fewer of the long, more of the short. One alone is always a part.
    """
    parts: list[list[int]] = []
    longest = (0, 0)
    for position, (source, target) in enumerate(lengths):
        longest = max(longest[0], source), max(longest[1], target)
        if not parts or (len(parts[-1]) + 1) * (padded(longest[0]) + padded(longest[1])) > budget:
            parts.append([])
            longest = source, target
        parts[-1].append(position)
    return parts


def padded(length: int) -> int:
    """The length that a batch gives it."""
    return -(-length // PADDING) * PADDING
