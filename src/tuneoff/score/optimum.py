"""The best learning rate of a search, between the rates that were tried, and how sure it is. numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuneoff.records import Record
from tuneoff.score.groups import Groups
from tuneoff.score.resampling import Array, bootstrap_sums

FEWEST = 4  # rates with a finite loss
RESAMPLES = 2_000
RANDOM_SEED = 12345
DIVERGED = 4.0  # times the rise of the lowest rate
TAIL = 2.5  # percent beyond either end of an interval


class Optimum(Record):
    """Where the validation loss of an arm is lowest, as a function of the learning rate.

    Attributes:
        arm: Its name.
        steps: The optimizer steps of the tries that it is from.
        rates: How many rates had a finite loss after so many steps.
        examples: The validation examples.
        rate: The optimum; the best rate tried where it is not `located`.
        edge: Whether the best is the lowest or the highest of these rates; it is then a bound of the optimum.
        diverged: A neighbour of the best that has diverged; nothing closer than both neighbours is then known.
        below: The next lower rate that was tried; None at the lower edge.
        above: The next higher one; None at the upper edge.
        low: The lower end of the 95 % interval; None where the optimum is not located, and where the interval reaches
            beyond the lowest rate.
        high: The upper end, likewise.
        loss: The loss predicted at the optimum, in nats a target token; None where it is not located.
        chosen: The rate that the arm is trained with.
        loss_at_chosen: The loss predicted there; None where the optimum is not located, and beyond the rates tried.
        loss_at_half: The loss predicted at half of it, likewise.
        loss_at_double: The loss predicted at its double, likewise.
    """

    arm: str
    steps: int
    rates: int
    examples: int
    rate: float
    edge: Literal["lowest", "highest"] | None = None
    diverged: float | None = None
    below: float | None
    above: float | None
    low: float | None = None
    high: float | None = None
    loss: float | None = None
    chosen: float
    loss_at_chosen: float | None = None
    loss_at_half: float | None = None
    loss_at_double: float | None = None

    @property
    def located(self) -> bool:
        """Whether it lies between the rates tried, and a parabola tells where."""
        return self.edge is None and self.diverged is None


class RateRatio(Record):
    """An arm's optimal learning rate over the baseline's, with its 95 % interval; an end is None where one is open."""

    arm: str
    baseline: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class FoundOptimum:
    """An optimum, and the log10 of the rate in each bootstrap resample: (R)."""

    optimum: Optimum
    drawn: Array


def find_optimum(
    arm: str, steps: int, chosen: float, rates: Array, nats: Array, tokens: Array, groups: Groups | None = None
) -> FoundOptimum:
    """The optimum of losses `nats` (R, N), on N examples of `tokens` (N) targets after a try of each of `rates` (R).

    It is the vertex of the parabola in log10 of the rate through the best rate and its two neighbours. These alone,
    and not all rates: towards high rates the loss grows faster than any parabola, and one that followed it would miss
    the bottom. The vertex always lies nearer to the best rate than to its neighbours.

    The interval is the percentile interval of a bootstrap over examples (Efron 1979), or over `groups` of them, the
    same for every rate, with the best rate chosen anew in each resample. It says how sure the optimum is given these
    validation examples, for a training with this seed; how much trainings with other seeds differ is not in it. Where
    more than 2.5 % of the resamples have their best at an edge of the rates, the interval is open at that end.

    A parabola tells nothing of a curve that breaks off. A neighbour counts as diverged where its loss rises above the
    best by more than 4 times what the lowest rate's does, which has hardly trained; the optimum then lies between the
    neighbours, and no more is said.

    The loss at any other rate is predicted by the same parabola between the neighbours of the best, so that it is never
    below the optimum's, and elsewhere by a straight line between the two rates tried on either side.
    """
    order = np.argsort(rates)
    x, nats, exact = np.log10(rates[order]), nats[order], rates[order]
    losses = nats.sum(1) / tokens.sum()
    best = int(losses.argmin())
    statistics = np.stack([nats, np.broadcast_to(tokens, nats.shape)], axis=2).astype(np.float64)
    if groups is not None:
        statistics = groups.sums(statistics, axis=1)
    sums = bootstrap_sums(statistics, RESAMPLES, RANDOM_SEED)  # (resamples, R, 2)
    resampled = sums[:, :, 0] / np.maximum(sums[:, :, 1], 1)
    bests = resampled.argmin(1)
    drawn = _vertices(x, resampled)
    below, above = (float(exact[n]) if 0 <= n < len(x) else None for n in (best - 1, best + 1))
    known = {"arm": arm, "steps": steps, "rates": len(x), "examples": len(tokens), "chosen": chosen}
    found = Optimum.model_validate({**known, "rate": float(exact[best]), "below": below, "above": above})
    if below is None or above is None:
        return FoundOptimum(found.model_copy(update={"edge": "lowest" if below is None else "highest"}), drawn)
    rises = losses - losses[best]
    steepest = best + (1 if rises[best + 1] > rises[best - 1] else -1)
    if rises[steepest] > DIVERGED * rises[0]:
        return FoundOptimum(found.model_copy(update={"diverged": float(exact[steepest])}), drawn)
    vertex = float(_vertices(x, losses[None])[0])
    low, high = (float(10**end) for end in np.percentile(drawn, [TAIL, 100 - TAIL]))
    at_chosen, at_half, at_double = (
        _predicted(x, losses, best, np.log10(chosen * factor)) for factor in (1.0, 0.5, 2.0)
    )
    return FoundOptimum(
        found.model_copy(
            update={
                "rate": 10**vertex,
                "low": None if _share(bests == 0) > TAIL else low,
                "high": None if _share(bests == len(x) - 1) > TAIL else high,
                "loss": _predicted(x, losses, best, vertex),
                "loss_at_chosen": at_chosen,
                "loss_at_half": at_half,
                "loss_at_double": at_double,
            }
        ),
        drawn,
    )


def rate_ratios(found: Sequence[FoundOptimum], baseline: str) -> list[RateRatio]:
    """Each arm's optimum over that of `baseline`, where both are located.

    Resamples are paired: they are of the same validation examples.
    """
    inner = {one.optimum.arm: one for one in found if one.optimum.located}
    full = inner.get(baseline)
    return [_ratio(one, full) for name, one in inner.items() if full is not None and name != baseline]


def _ratio(one: FoundOptimum, other: FoundOptimum) -> RateRatio:
    a, b = one.optimum, other.optimum
    low, high = (float(10**end) for end in np.percentile(one.drawn - other.drawn, [TAIL, 100 - TAIL]))
    return RateRatio(
        arm=a.arm,
        baseline=b.arm,
        value=a.rate / b.rate,
        low=None if a.low is None or b.high is None else low,
        high=None if a.high is None or b.low is None else high,
    )


def _vertices(x: Array, losses: Array) -> Array:
    """(S): the vertex of the parabola through the smallest of `losses` (S, R) at `x` (R) and its neighbours.

    The best `x` itself where it is the first or the last, or where the three are equal.
    """
    rows, best = np.arange(len(losses)), losses.argmin(1)
    middle = np.clip(best, 1, len(x) - 2)
    left, right = x[middle] - x[middle - 1], x[middle + 1] - x[middle]
    up_left = losses[rows, middle - 1] - losses[rows, middle]
    up_right = losses[rows, middle + 1] - losses[rows, middle]
    curvature = left * up_right + right * up_left
    inner = (best == middle) & (curvature > 0)
    shift = (right**2 * up_left - left**2 * up_right) / (2 * np.where(inner, curvature, 1.0))
    return np.where(inner, x[middle] + shift, x[best])


def _predicted(x: Array, losses: Array, best: int, place: float) -> float | None:
    """The loss at `place` on the log scale of the rates; None beyond all of them. `best` is at neither end of `x`."""
    if not x[0] - 1e-9 <= place <= x[-1] + 1e-9:
        return None
    if not x[best - 1] <= place <= x[best + 1]:
        return float(np.interp(place, x, losses))
    near = slice(best - 1, best + 2)
    return float(np.polynomial.Polynomial.fit(x[near], losses[near], 2)(place))


def _share(chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """In percent."""
    return 100 * float(chosen.mean())
