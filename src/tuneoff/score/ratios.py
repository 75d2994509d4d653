"""The ratio of what two arms take for the same parts of the same work, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuneoff.records import Record
from tuneoff.score.student import upper_quantile

RESAMPLES = 2_000
RANDOM_SEED = 12345
TAIL = 2.5  # percent beyond either end of an interval
OUTLYING = 5.0  # standard deviations from the median, by the median absolute deviation
FEWEST = 8  # pairs for an interval


class Ratio(Record):
    """A ratio with its 95 % interval; `low` and `high` are None where too little was measured for one."""

    value: float
    low: float | None = None
    high: float | None = None


def paired_ratio(runs: Sequence[NDArray[np.float64]], most_blocks: int | None = None) -> Ratio:
    """The ratio of the seconds of one arm to those of another, from pairs of the same parts.

    `runs` are arrays (N, 2), one a seed: the seconds of both arms for N parts in the order in which they were done.
    There is at least one part in all. The ratio is that of the sums over all pairs, less the pairs whose own log ratio
    lies more than 5 robust standard deviations from the median: a part that something unseen held up says nothing of
    the arms.

    The interval is the percentile interval of a circular block bootstrap (Politis and Romano 1992) with blocks of √N
    parts, longer where these would be more than `most_blocks`, which keeps what neighbouring parts share: a machine
    that is slow is slow for a while, and one measurement of its speed is of many parts. Few blocks know too little of
    their own spread, so it is widened, on the log scale, as Student's t with one degree of freedom less than there are
    blocks is wider than the normal distribution.
    """
    runs = [run for run in runs if len(run)]
    logs = np.concatenate([np.log(run[:, 0] / run[:, 1]) for run in runs])
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    near = np.abs(logs - middle) <= max(OUTLYING * spread, 1e-9)
    ends = np.cumsum([len(run) for run in runs])[:-1]
    kept = [run[chosen] for run, chosen in zip(runs, np.split(near, ends), strict=True) if chosen.any()]
    one, other = np.sum([run.sum(0) for run in kept], axis=0)
    value = float(one / other)
    if sum(map(len, kept)) < FEWEST:
        return Ratio(value=value)
    random = np.random.default_rng(RANDOM_SEED)
    sums = np.sum([_resampled_sums(run, random, most_blocks) for run in kept], axis=0)
    low, high = np.log(np.percentile(sums[:, 0] / sums[:, 1], [TAIL, 100 - TAIL]) / value)
    wider = _widening(sum(_blocks(len(run), most_blocks) for run in kept))
    return Ratio(value=value, low=value * math.exp(wider * low), high=value * math.exp(wider * high))


def ratio_over_seeds(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The ratio of two arms' figures that are measured once a seed: the geometric mean over the seeds.

    With several seeds the interval is from the smallest to the largest of their ratios, which for so few says more than
    a distribution that would have to be assumed.
    """
    ratios = [one / other for one, other in pairs]
    value = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return Ratio(value=value, low=min(ratios), high=max(ratios)) if len(ratios) > 1 else Ratio(value=value)


def _resampled_sums(
    run: NDArray[np.float64], random: np.random.Generator, most_blocks: int | None
) -> NDArray[np.float64]:
    """(R, 2): the sums of both columns over N parts, drawn in blocks of neighbours around a circle."""
    count = len(run)
    length, blocks = _block_length(count, most_blocks), _blocks(count, most_blocks)
    starts = random.integers(0, count, (RESAMPLES, blocks))
    places = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :count] % count
    return run[places].sum(1)


def _block_length(count: int, most_blocks: int | None) -> int:
    return max(1, round(math.sqrt(count)), -(-count // (most_blocks or count)))


def _blocks(count: int, most_blocks: int | None) -> int:
    return -(-count // _block_length(count, most_blocks))


def _widening(blocks: int) -> float:
    """The 97.5 % quantile of Student's t with `blocks` - 1 degrees of freedom over the normal one's, and the bias of
    a standard deviation of so few.
    """
    free = max(1, blocks - 1)
    return upper_quantile(0.025, free) / upper_quantile(0.025, math.inf) * math.sqrt(blocks / free)
