"""What losses of variants of an update show, on planted losses."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.score.update import gain_kept, loss_change


def losses(seed: int, examples: int, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of each example, and the losses of a model before and after, in nats."""
    random = np.random.default_rng(seed)
    tokens = random.integers(10, 60, examples).astype(float)
    before = tokens * random.normal(3, 0.3, examples)
    return tokens, before, before - tokens * random.normal(gain, 0.2, examples)


def test_a_variant_between_both_keeps_its_share_exactly() -> None:
    _, before, after = losses(0, 40, gain=0.5)
    for share in (0.0, 0.25, 0.98, 1.0, 1.1):
        kept = gain_kept(before, after, before + share * (after - before))
        assert kept is not None
        assert (kept.value, kept.low, kept.high) == pytest.approx((share, share, share), abs=1e-9)


def test_no_share_is_told_of_a_gain_that_is_not_sure() -> None:
    _, before, after = losses(1, 12, gain=0.02)
    assert gain_kept(before, after, after) is None
    assert gain_kept(after, before, after) is None  # it has become worse


def test_a_change_is_in_nats_a_token_of_all_examples_together() -> None:
    change = loss_change(np.array([10.0, 30.0]), np.array([12.0, 33.0]), np.array([4.0, 6.0]))
    assert change.value == pytest.approx(0.5)
    assert (change.low, change.high) == pytest.approx((0.5, 0.5))  # of either example, and of any mixture


def test_intervals_hold_the_true_figures_as_often_as_they_say() -> None:
    """Of 200 drawn sets: the true change, and the true share of a variant with a third less and noise of its own."""
    held = np.zeros(2)
    for seed in range(200):
        tokens, before, after = losses(seed, 60, gain=0.4)
        noise = np.random.default_rng(1000 + seed).normal(0, 0.1, 60)
        variant = before + 2 / 3 * (after - before) + tokens * noise
        change, kept = loss_change(before, after, tokens), gain_kept(before, after, variant)
        assert kept is not None
        held += [change.low <= -0.4 <= change.high, kept.low <= 2 / 3 <= kept.high]
    assert (held >= 180).all() and (held <= 199).all(), held
