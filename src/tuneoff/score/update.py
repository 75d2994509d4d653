"""What losses of a model with a part of its update show, with intervals over examples or texts."""

from __future__ import annotations

import numpy as np

from tuneoff.records import Interval
from tuneoff.score.evidence import RANDOM_SEED, RESAMPLES
from tuneoff.score.groups import Groups
from tuneoff.score.resampling import Array, bootstrap_sums


def loss_change(before: Array, after: Array, tokens: Array, groups: Groups | None = None) -> Interval:
    """The mean loss of `after` minus that of `before` in nats per token, paired.

    The losses are (N) in nats, each summed over the `tokens` (N) of its example. The interval is by the bootstrap over
    examples or `groups` of them, whose tokens are drawn with them.
    """
    drawn = _resampled(np.stack([after - before, tokens]), groups)
    return _interval((after - before).sum() / tokens.sum(), drawn[0] / drawn[1])


def gain_kept(original: Array, trained: Array, variant: Array, groups: Groups | None = None) -> Interval | None:
    """The share of the trained model's gain over the original that a variant of it has: 1 where it has all of it.

    The losses are (N) in nats, of the same examples, in `groups` where they depend on each other.
    None where the trained model is not surely better than the
    original: where the 95 % interval of its gain holds 0.
    """
    gain, kept = _resampled(np.stack([original - trained, original - variant]), groups)
    if np.percentile(gain, 2.5) <= 0:
        return None
    share = (original - variant).sum() / (original - trained).sum()
    some = gain > 0
    return _interval(share, kept[some] / gain[some])


def _resampled(values: Array, groups: Groups | None) -> Array:
    """(A, R): the sums of `values` (A, N) over the examples of each bootstrap resample."""
    if groups is not None:
        values = groups.sums(values)
    return bootstrap_sums(values[:, :, None], RESAMPLES, RANDOM_SEED)[:, :, 0].T


def _interval(value: float, drawn: Array) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value=float(value), low=float(low), high=float(high))
