"""The order of the training examples: random, grouped by length, and the same for every arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
