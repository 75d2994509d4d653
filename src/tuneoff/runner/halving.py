"""Successive halving of learning rates (Jamieson and Talwalkar 2016): many rates for few steps, few rates for many.

Every try of a rung is a training of its own, from the original weights, and not the last rung's carried on: the
learning rate's schedule ends with the steps of its training, so that what was trained by a shorter one is no part of a
longer one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuneoff.records import Failure, Try


def rung_sizes(rates: int) -> list[int]:
    """How many rates each rung tries: all, the better half (rounded up) of those, and so on down to two."""
    sizes = [rates]
    while sizes[-1] > 2:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def rung_steps(rates: int, tune_steps: int) -> list[int]:
    """The optimizer steps of a try in each rung, each twice those before.

    All rungs together take what a plain search takes, `tune_steps` for each rate, or less by rounding; where that is
    too little, a try of the first rung takes one step.
    """
    sizes = rung_sizes(rates)
    first = rates * tune_steps // sum(size * 2**rung for rung, size in enumerate(sizes))
    return [max(1, first) * 2**rung for rung in range(len(sizes))]


def better_half(tries: Sequence[Try]) -> list[float]:
    """The rates that the next rung tries, in the order of this one: half of its rates, rounded up.

    Fewer, where fewer gave a finite validation loss.
    """
    known = finite(tries)
    best = sorted(known, key=lambda t: t.validation_loss or 0.0)[: -(-len(tries) // 2)]
    return [t.learning_rate for t in known if t in best]


def finite(tries: Sequence[Try]) -> list[Try]:
    """The tries that ended with a finite validation loss."""
    return [t for t in tries if t.validation_loss is not None and math.isfinite(t.validation_loss)]


def without_finite_loss(tries: Sequence[Try], before: Sequence[Try]) -> Failure:
    """How a search fails whose newest `tries` have no finite validation loss; `before` are those of earlier rungs.

    Where one of them died of something else than its loss, that is the failure.
    """
    failures = {t.learning_rate: t.failure for t in tries if t.failure is not None}
    for failure in failures.values():
        if failure.kind != "not a number":
            return failure
    rates = ", ".join(f"{t.learning_rate:g}" for t in tries)
    message = f"the search tried {rates}, and no rate has a finite validation loss"
    if before:
        message = (
            f"the search found no rate: {rates} had a finite validation loss after {max(t.steps for t in before)} "
            f"steps, and none has one after the steps of rung {tries[0].rung}"
        )
    message += "; try lower rates"
    if not failures:
        return Failure(kind="not a number", message=message, log="")
    rate, last = list(failures.items())[-1]
    return Failure(kind="not a number", message=f"{message} (at {rate:g}: {last.message})", log=last.log)
