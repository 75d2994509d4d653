"""Resampling over examples: how sure a difference is, given this test set. numpy alone, and vectorised.

Every arm has answered the same examples, so all of it is paired:
a resample takes the same examples of every arm.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CELLS = 4_000_000  # of resamples × examples at once: 32 MB


def bootstrap_means(scores: Array, resamples: int, seed: int) -> Array:
    """(R, A): each arm's mean in each of R bootstrap resamples (Efron 1979) of `scores` (A, N).

    Examples are drawn with replacement. The resamples are the same for every arm.
    """
    random = np.random.default_rng(seed)
    examples = scores.shape[1]
    chunks = _chunks(resamples, examples)
    return np.concatenate([_counts(random, count, examples) @ scores.T / examples for count in chunks])


def bootstrap_sums(statistics: Array, resamples: int, seed: int) -> Array:
    """(R, A, K): sums of each arm's statistics (A, N, K) over the examples of the resamples of `bootstrap_means`."""
    random = np.random.default_rng(seed)
    arms, examples, parts = statistics.shape
    flat = statistics.transpose(1, 0, 2).reshape(examples, arms * parts)
    chunks = [_counts(random, count, examples) @ flat for count in _chunks(resamples, examples)]
    return np.concatenate(chunks).reshape(resamples, arms, parts)


def randomization_p(differences: Array, resamples: int, seed: int) -> Array:
    """(P): two-sided p-values of paired differences (N, P) by approximate randomization (Noreen 1989).

    Under the null hypothesis an example's two scores could be exchanged, which turns the sign of its difference.
    p = (c + 1) / (R + 1), with c the resamples whose mean is at least as far from 0 as the one seen.
    """
    random = np.random.default_rng(seed)
    examples = differences.shape[0]
    seen = np.abs(differences.sum(0)) * (1 - 1e-12)  # equal sums may differ in the last bits
    beyond = np.zeros(differences.shape[1])
    for count in _chunks(resamples, examples):
        signs = 2.0 * random.integers(0, 2, (count, examples), dtype=np.int8) - 1.0
        beyond += (np.abs(signs @ differences) >= seen).sum(0)
    return (beyond + 1) / (resamples + 1)


def holm(p: Array) -> Array:
    """P-values adjusted for being a family (Holm 1979): at level α, those below α are the ones to believe."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def _chunks(resamples: int, width: int) -> Iterator[int]:
    most = max(1, CELLS // width)
    while resamples > 0:
        yield min(most, resamples)
        resamples -= most


def _counts(random: np.random.Generator, resamples: int, size: int) -> Array:
    """(R, size): how often each of `size` things is drawn in each resample of `size` draws with replacement."""
    drawn = random.integers(0, size, (resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)
