from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.data.order import epoch_order, micro_batches, token_budget

lengths = st.lists(st.tuples(st.integers(1, 600), st.integers(1, 130)), min_size=1, max_size=300)


@given(lengths, st.integers(1, 16), st.integers(0, 5), st.integers(0, 3))
def test_each_example_once_longest_step_first_incomplete_step_last(
    sizes: list[tuple[int, int]], step: int, seed: int, epoch: int
) -> None:
    order = epoch_order(sizes, step, seed, epoch)
    assert sorted(order) == list(range(len(sizes)))
    assert order == epoch_order(sizes, step, seed, epoch)
    complete = len(sizes) // step * step
    if complete:
        assert max(sum(sizes[i]) for i in order[:step]) == max(sum(sizes[i]) for i in order[:complete])


def padded_share(sizes: list[tuple[int, int]], order: list[int], step: int) -> float:
    steps = [[sizes[i][0] for i in order[k : k + step]] for k in range(0, len(order), step)]
    return sum(map(sum, steps)) / sum(len(s) * max(s) for s in steps)


def test_steps_need_little_padding_and_epochs_differ() -> None:
    rng = random.Random(0)
    sizes = [(rng.randrange(30, 500), rng.randrange(10, 80)) for _ in range(2000)]
    order = epoch_order(sizes, 8, 0, 0)
    assert padded_share(sizes, order, 8) > 0.93
    assert padded_share(sizes, list(range(2000)), 8) < 0.7
    assert order != epoch_order(sizes, 8, 0, 1)
    assert order != epoch_order(sizes, 8, 1, 0)


def test_no_step_is_ragged_within_the_epoch() -> None:
    # Pools are a whole number of steps, so only the very last step can be incomplete.
    order = epoch_order([(5, 5)] * 1003, 8, 0, 0)
    assert len(order) == 1003


@pytest.mark.parametrize("seed", range(20))
def test_micro_batches_hold_every_example_once_within_the_budget(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = [(int(s), int(t)) for s, t in zip(draw.integers(1, 500, 16), draw.integers(1, 90, 16), strict=True)]
    lengths.sort(reverse=True)
    size = int(draw.integers(1, 9))
    budget = token_budget(lengths, size)
    parts = micro_batches(lengths, budget)
    assert [i for part in parts for i in part] == list(range(16))
    padded = [sum(-(-max(lengths[i][k] for i in part) // 8) * 8 for k in (0, 1)) * len(part) for part in parts]
    assert max(padded) <= budget
    assert len(parts) <= -(-16 // size)  # never more than as many of the longest would make
    assert micro_batches(lengths, token_budget(lengths, 16)) == [list(range(16))]
